// The window of a sweep, in the type that is computed with. The usual 11 taps are unrolled.
#pragma once

#include "cpu/runtime/arena.h"
#include "cpu/window/along.h"
#include "cpu/window/down.h"

namespace fastmef {
namespace {

// Rows of windows that are computed at once: each row of pixels under several of them is loaded
// once.
constexpr int kBlock = 4;

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
      mean_along_11(in, x_, n, out);
    } else {
      mean_along(in, x_, count_x_, n, out);
    }
  }

  // Filter down the columns, for the windows that begin in each of `rows` rows, at most kBlock. The
  // first argument holds the rows under all of them. Row r of a result begins at r * stride.
  void down(const T* const* in, int rows, int64_t n, int64_t stride, T* out) const {
    if (count_y_ == 11 && rows == kBlock) return mean_down<T, 11, kBlock>(in, y_, n, stride, out);
    for (int r = 0; r < rows; ++r, out += stride) {
      if (count_y_ == 11) {
        mean_down<T, 11, 1>(in + r, y_, n, stride, out);
      } else {
        mean_down<T>(in + r, y_, count_y_, n, out);
      }
    }
  }

  void moments(const T* const* f, int rows, int64_t n, int64_t stride, T* mean,
               T* second_moment) const {
    if (count_y_ == 11 && rows == kBlock) {
      return moments_down<T, 11, kBlock>(f, y_, n, stride, mean, second_moment);
    }
    for (int r = 0; r < rows; ++r, mean += stride, second_moment += stride) {
      if (count_y_ == 11) {
        moments_down<T, 11, 1>(f + r, y_, n, stride, mean, second_moment);
      } else {
        moments_down<T>(f + r, y_, count_y_, n, mean, second_moment);
      }
    }
  }

  void cross_moments(const T* const* f, const T* const* i, int rows, int64_t n, int64_t stride,
                     T* mean, T* second_moment, T* cross) const {
    if (count_y_ == 11 && rows == kBlock) {
      return cross_moments_down<T, 11, kBlock>(f, i, y_, n, stride, mean, second_moment, cross);
    }
    for (int r = 0; r < rows; ++r, mean += stride, second_moment += stride, cross += stride) {
      if (count_y_ == 11) {
        cross_moments_down<T, 11, 1>(f + r, i + r, y_, n, stride, mean, second_moment, cross);
      } else {
        cross_moments_down<T>(f + r, i + r, y_, count_y_, n, mean, second_moment, cross);
      }
    }
  }

 private:
  int count_y_ = 0, count_x_ = 0;
  T *y_ = nullptr, *x_ = nullptr;
};

}  // namespace
}  // namespace fastmef
