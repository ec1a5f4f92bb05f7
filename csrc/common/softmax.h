// Softmax over two exposures, the usual number: one exponential instead of two.
#pragma once

#include "math.h"

namespace fastmef {

template <class T>
FASTMEF_HD void softmax_of_two(T a, T b, T& weight_a, T& weight_b) {
  const T difference = a - b;
  const bool first = difference >= 0;
  const T small = exp_nonpositive(first ? -difference : difference);
  const T large = T(1) / (T(1) + small);
  weight_a = first ? large : small * large;
  weight_b = first ? small * large : large;
}

}  // namespace fastmef
