// An axis of windows as the binding of an operation makes it.
#pragma once

#include <vector>

#include "cpu/window/axis.h"

namespace fastmef {

using TapList = std::vector<double>;

inline Axis make_axis(int64_t size, const TapList& taps, int border) {
  return {size, static_cast<int>(taps.size()), static_cast<Border>(border)};
}

}  // namespace fastmef
