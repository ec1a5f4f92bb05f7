// The window of a level, in the type that is computed with. The usual 11 taps are unrolled.
#pragma once

#include "arena.h"
#include "filter_rows.h"
#include "loss.h"

namespace fastmef {
namespace {

template <class T>
class Taps {
 public:
  Taps(const Level& level, Arena& arena) : level_(level) {
    y_ = arena.take<T>(level.wy);
    x_ = arena.take<T>(level.wx);
  }

  void fill() {
    for (int j = 0; j < level_.wy; ++j) y_[j] = static_cast<T>(level_.taps_y[j]);
    for (int j = 0; j < level_.wx; ++j) x_[j] = static_cast<T>(level_.taps_x[j]);
  }

  void along(const T* in, int64_t n, T* out) const {
    if (level_.wx == 11) {
      mean_along<T, 11>(in, x_, 11, n, out);
    } else {
      mean_along<T, 0>(in, x_, level_.wx, n, out);
    }
  }

  void down(const T* const* rows, int64_t n, T* out) const {
    if (level_.wy == 11) {
      mean_down<T, 11>(rows, y_, 11, n, out);
    } else {
      mean_down<T, 0>(rows, y_, level_.wy, n, out);
    }
  }

  void moments(const T* const* f, int64_t n, T* mean, T* power) const {
    if (level_.wy == 11) {
      moments_down<T, 11>(f, y_, 11, n, mean, power);
    } else {
      moments_down<T, 0>(f, y_, level_.wy, n, mean, power);
    }
  }

  void cross_moments(const T* const* f, const T* const* i, int64_t n, T* mean, T* power,
                     T* cross) const {
    if (level_.wy == 11) {
      cross_moments_down<T, 11>(f, i, y_, 11, n, mean, power, cross);
    } else {
      cross_moments_down<T, 0>(f, i, y_, level_.wy, n, mean, power, cross);
    }
  }

 private:
  const Level& level_;
  T *y_, *x_;
};

}  // namespace
}  // namespace fastmef
