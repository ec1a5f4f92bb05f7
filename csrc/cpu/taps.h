// The window of a sweep, in the type that is computed with. The usual 11 taps are unrolled.
#pragma once

#include "arena.h"
#include "filter_rows.h"

namespace fastmef {
namespace {

template <class T>
class Taps {
 public:
  Taps() = default;
  Taps(int count_y, int count_x, Arena& arena)
      : count_y_(count_y),
        count_x_(count_x),
        y_(arena.take<T>(count_y)),
        x_(arena.take<T>(count_x)) {}

  void fill(const double* taps_y, const double* taps_x) {
    for (int j = 0; j < count_y_; ++j) y_[j] = static_cast<T>(taps_y[j]);
    for (int j = 0; j < count_x_; ++j) x_[j] = static_cast<T>(taps_x[j]);
  }

  void along(const T* in, int64_t n, T* out) const {
    if (count_x_ == 11) {
      mean_along<T, 11>(in, x_, 11, n, out);
    } else {
      mean_along<T, 0>(in, x_, count_x_, n, out);
    }
  }

  void down(const T* const* rows, int64_t n, T* out) const {
    if (count_y_ == 11) {
      mean_down<T, 11>(rows, y_, 11, n, out);
    } else {
      mean_down<T, 0>(rows, y_, count_y_, n, out);
    }
  }

  void moments(const T* const* f, int64_t n, T* mean, T* power) const {
    if (count_y_ == 11) {
      moments_down<T, 11>(f, y_, 11, n, mean, power);
    } else {
      moments_down<T, 0>(f, y_, count_y_, n, mean, power);
    }
  }

  void cross_moments(const T* const* f, const T* const* i, int64_t n, T* mean, T* power,
                     T* cross) const {
    if (count_y_ == 11) {
      cross_moments_down<T, 11>(f, i, y_, 11, n, mean, power, cross);
    } else {
      cross_moments_down<T, 0>(f, i, y_, count_y_, n, mean, power, cross);
    }
  }

  void pair_moments(const T* const* a, const T* const* b, int64_t n, T* const* out) const {
    if (count_y_ == 11) {
      pair_moments_down<T, 11>(a, b, y_, 11, n, out);
    } else {
      pair_moments_down<T, 0>(a, b, y_, count_y_, n, out);
    }
  }

 private:
  int count_y_ = 0, count_x_ = 0;
  T *y_ = nullptr, *x_ = nullptr;
};

}  // namespace
}  // namespace fastmef
