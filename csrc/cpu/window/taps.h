// The taps of a sweep, in the type that is used in computations. The loops for the usual 11 taps
// are unrolled, and those for the 5 taps of the descent in inference and the 8 of MEF-SSIM
// color2018.
#pragma once

#include "cpu/runtime/arena.h"
#include "cpu/window/along.h"
#include "cpu/window/down.h"

namespace fastmef {
namespace {

// The number of rows of windows that are computed at once, so that each row of pixels under several
// of them is loaded once.
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

  // Converts the taps.
  void fill(const double* taps_y, const double* taps_x) {
    for (int j = 0; j < count_y_; ++j) y_[j] = static_cast<T>(taps_y[j]);
    for (int j = 0; j < count_x_; ++j) x_[j] = static_cast<T>(taps_x[j]);
  }

  // Filters a row.
  void along(const T* in, int64_t n, T* out) const {
    if (count_x_ == 11) return mean_along_11(in, x_, n, out);
    if (count_x_ == 8) return mean_along<T, 8>(in, x_, n, out);
    if (count_x_ == 5) return mean_along<T, 5>(in, x_, n, out);
    mean_along(in, x_, count_x_, n, out);
  }

  // The functions below filter down the columns, for the windows that begin in each of `rows` rows,
  // at most kBlock. The first argument holds the rows under all of them. Row r of a result begins
  // at r * stride.
  void down(const T* const* in, int rows, int64_t n, int64_t stride, T* out) const {
    if (count_y_ == 11) return unrolled_down<11>(in, rows, n, stride, out);
    if (count_y_ == 8) return unrolled_down<8>(in, rows, n, stride, out);
    if (count_y_ == 5) return unrolled_down<5>(in, rows, n, stride, out);
    for (int r = 0; r < rows; ++r) mean_down<T>(in + r, y_, count_y_, n, out + r * stride);
  }

  void moments(const T* const* f, int rows, int64_t n, int64_t stride, T* mean,
               T* second_moment) const {
    if (count_y_ == 11) return unrolled_moments<11>(f, rows, n, stride, mean, second_moment);
    if (count_y_ == 5) return unrolled_moments<5>(f, rows, n, stride, mean, second_moment);
    for (int r = 0; r < rows; ++r, mean += stride, second_moment += stride) {
      moments_down<T>(f + r, y_, count_y_, n, mean, second_moment);
    }
  }

  void cross_moments(const T* const* f, const T* const* i, int rows, int64_t n, int64_t stride,
                     T* mean, T* second_moment, T* cross) const {
    if (count_y_ == 11) {
      return unrolled_cross_moments<11>(f, i, rows, n, stride, mean, second_moment, cross);
    }
    if (count_y_ == 5) {
      return unrolled_cross_moments<5>(f, i, rows, n, stride, mean, second_moment, cross);
    }
    for (int r = 0; r < rows; ++r, mean += stride, second_moment += stride, cross += stride) {
      cross_moments_down<T>(f + r, i + r, y_, count_y_, n, mean, second_moment, cross);
    }
  }

 private:
  template <int N>
  void unrolled_down(const T* const* in, int rows, int64_t n, int64_t stride, T* out) const {
    if (rows == kBlock) return mean_down<T, N, kBlock>(in, y_, n, stride, out);
    for (int r = 0; r < rows; ++r) mean_down<T, N, 1>(in + r, y_, n, stride, out + r * stride);
  }

  template <int N>
  void unrolled_moments(const T* const* f, int rows, int64_t n, int64_t stride, T* mean,
                        T* second_moment) const {
    if (rows == kBlock) {
      return moments_down<T, N, kBlock>(f, y_, n, stride, mean, second_moment);
    }
    for (int r = 0; r < rows; ++r, mean += stride, second_moment += stride) {
      moments_down<T, N, 1>(f + r, y_, n, stride, mean, second_moment);
    }
  }

  template <int N>
  void unrolled_cross_moments(const T* const* f, const T* const* i, int rows, int64_t n,
                              int64_t stride, T* mean, T* second_moment, T* cross) const {
    if (rows == kBlock) {
      return cross_moments_down<T, N, kBlock>(f, i, y_, n, stride, mean, second_moment, cross);
    }
    for (int r = 0; r < rows; ++r, mean += stride, second_moment += stride, cross += stride) {
      cross_moments_down<T, N, 1>(f + r, i + r, y_, n, stride, mean, second_moment, cross);
    }
  }

  int count_y_ = 0, count_x_ = 0;
  T *y_ = nullptr, *x_ = nullptr;
};

}  // namespace
}  // namespace fastmef
