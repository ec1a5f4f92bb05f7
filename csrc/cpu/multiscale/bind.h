// The multiscale_fuse part of the binding.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmef {

void bind_blend(pybind11::module_& m);

}  // namespace fastmef
