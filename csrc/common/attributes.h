// The attributes V, S and E of an exposure: local variance, gradient and well-exposedness.
#pragma once

#include "common/math.h"

namespace fastmef {

enum Attribute { kVariance = 1, kGradient = 2, kWellExposedness = 4 };

// Returns max(E[x^2] - E[x]^2, floor). Both moments may be those of x minus a constant.
template <class T>
FASTMEF_HD T local_variance(T mean, T second_moment, T floor) {
  return larger(second_moment - mean * mean, floor);
}

// Returns whether the variance is below the floor, where its gradient is 0. A variance equal to the
// floor has a gradient.
template <class T>
FASTMEF_HD bool is_floored(T mean, T second_moment, T floor) {
  return second_moment - mean * mean < floor;
}

template <class T>
struct Differences {
  T x, y;
};

// Returns the 3x3 Sobel differences. The neighbours lie in the rows above (a), at (b) and below (c)
// the pixel.
template <class T>
FASTMEF_HD Differences<T> sobel_differences(T a0, T a1, T a2, T b0, T b2, T c0, T c1, T c2) {
  return {(a2 - a0) + 2 * (b2 - b0) + (c2 - c0), (c0 - a0) + 2 * (c1 - a1) + (c2 - a2)};
}

// Returns the squared magnitude of the Sobel differences.
template <class T>
FASTMEF_HD T sobel_squared(T a0, T a1, T a2, T b0, T b2, T c0, T c1, T c2) {
  const Differences<T> d = sobel_differences(a0, a1, a2, b0, b2, c0, c1, c2);
  return d.x * d.x + d.y * d.y;
}

// Returns exp(-(x - 0.5)^2 / (2 * 0.2^2)).
template <class T>
FASTMEF_HD T well_exposedness(T x) {
  const T offset = x - T(0.5);
  return exp_nonpositive(offset * offset * T(-12.5));
}

}  // namespace fastmef
