// Compression of overshoot beyond [0, unit], and its derivative.
//
//   y = min(x, unit + h) - t^2 / (4 h),   t = min(max(x - unit + h, 0), 2 h)
//
// with h = high near the top, and the same with low, mirrored, near 0.
#pragma once

#include <limits>

#include "common/hd.h"

namespace fastmef {

template <class T>
struct Knee {
  T bottom, top;               // compression begins at these values
  T lowest, highest;           // y is constant beyond these values
  T below_most, above_most;    // the largest t near the bottom and near the top
  T below_scale, above_scale;  // 1 / (4 h)
};

// If `low` is 0 nothing is compressed.
template <class T>
Knee<T> make_knee(double low, double high, double unit) {
  constexpr T kMost = std::numeric_limits<T>::max();
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  if (!(low > 0)) return {-kMost, kMost, -kInfinity, kInfinity, 0, 0, 0, 0};
  const T l = static_cast<T>(low * unit), h = static_cast<T>(high * unit);
  const T u = static_cast<T>(unit);
  return {l, u - h, -l, u + h, 2 * l, 2 * h, T(0.25) / l, T(0.25) / h};
}

// Return the distance of x beyond the value where the compression begins, clamped to [0, 2 h]; 0
// for NaN.
template <class T>
FASTMEF_HD T distance_above(T x, const Knee<T>& knee) {
  x = x > knee.top ? x : knee.top;
  return x - knee.top < knee.above_most ? x - knee.top : knee.above_most;
}
template <class T>
FASTMEF_HD T distance_below(T x, const Knee<T>& knee) {
  x = x < knee.bottom ? x : knee.bottom;
  return knee.bottom - x < knee.below_most ? knee.bottom - x : knee.below_most;
}

// Returns y of the formula above.
template <class T>
FASTMEF_HD T compress(T x, const Knee<T>& knee) {
  const T above = distance_above(x, knee);
  const T below = distance_below(x, knee);
  x = knee.lowest > x ? knee.lowest : x;  // NaN is kept
  x = knee.highest < x ? knee.highest : x;
  return x - above * above * knee.above_scale + below * below * knee.below_scale;
}

// Returns the derivative of compress() at x.
template <class T>
FASTMEF_HD T compress_slope(T x, const Knee<T>& knee) {
  const T above = distance_above(x, knee);
  const T below = distance_below(x, knee);
  return (1 - 2 * above * knee.above_scale) * (1 - 2 * below * knee.below_scale);
}

}  // namespace fastmef
