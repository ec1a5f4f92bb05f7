// Helpers of bindings of operations on windows.
#pragma once

#include <vector>

#include "cpu/window/axis.h"

namespace fastmef {

using TapList = std::vector<double>;

inline Axis make_axis(int64_t size, const TapList& taps, int border) {
  return {size, static_cast<int>(taps.size()), static_cast<Border>(border)};
}

}  // namespace fastmef
