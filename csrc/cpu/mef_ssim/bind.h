// The MEF-SSIM part of the binding.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmef {

void bind_mef(pybind11::module_& m);

}  // namespace fastmef
