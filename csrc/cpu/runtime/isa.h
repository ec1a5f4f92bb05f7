// The choice of the instruction set, once, when the module is loaded.
#pragma once

#include <string>
#include <vector>

#include "cpu/runtime/variant.h"

namespace fastmef {

std::vector<std::string> available_isas();  // best first; "baseline" is always the last
const Variant& active();
bool use_isa(const std::string& name);  // false if this processor or build does not have it

}  // namespace fastmef
