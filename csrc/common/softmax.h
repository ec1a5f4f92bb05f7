// Softmax over the exposures of one pixel; two exposures need only one exponential. If the largest
// logit is not finite, all weights are NaN, as in PyTorch.
#pragma once

#include "common/math.h"

namespace fastmef {

// Computes the softmax of two numbers.
template <class T>
FASTMEF_HD void softmax_of_two(T a, T b, T& weight_a, T& weight_b) {
  const T difference = a - b;
  const bool first = difference >= 0;
  const T small = exp_nonpositive(first ? -difference : difference);
  const T highest = first ? a : b;
  // highest - highest is 0, and NaN if the largest logit is not finite.
  const T large = reciprocal(T(1) + (highest - highest) + small);
  weight_a = first ? large : small * large;
  weight_b = first ? small * large : large;
}

// Computes the softmax of the first `count` of K numbers in place.
template <class T, int K>
FASTMEF_HD void softmax(T (&x)[K], int count) {
  if constexpr (K == 2) {
    softmax_of_two(x[0], x[1], x[0], x[1]);
  } else {
    T highest = x[0];
    for (int k = 1; k < K; ++k) highest = k < count ? larger(highest, x[k]) : highest;
    T total = 0;
    for (int k = 0; k < K; ++k) {
      x[k] = k < count ? exp_nonpositive(x[k] - highest) : T(0);
      total += x[k];
    }
    const T inverse = reciprocal(total);
    for (int k = 0; k < K; ++k) x[k] *= inverse;
  }
}

}  // namespace fastmef
