// The window of a sweep, in the type that is computed with. The usual 11 taps are unrolled.
#pragma once

#include "cpu/runtime/arena.h"
#include "cpu/window/along.h"
#include "cpu/window/down.h"

namespace fastmef {
namespace {

// Rows of windows made at once where the caller can: a row under several of them is loaded once.
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

  // The rows of these three are those under the windows that begin in `rows` rows, at most kBlock;
  // each result takes as many rows, `stride` apart.
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

  void moments(const T* const* f, int rows, int64_t n, int64_t stride, T* mean, T* power) const {
    if (count_y_ == 11 && rows == kBlock) {
      return moments_down<T, 11, kBlock>(f, y_, n, stride, mean, power);
    }
    for (int r = 0; r < rows; ++r, mean += stride, power += stride) {
      if (count_y_ == 11) {
        moments_down<T, 11, 1>(f + r, y_, n, stride, mean, power);
      } else {
        moments_down<T>(f + r, y_, count_y_, n, mean, power);
      }
    }
  }

  void cross_moments(const T* const* f, const T* const* i, int rows, int64_t n, int64_t stride,
                     T* mean, T* power, T* cross) const {
    if (count_y_ == 11 && rows == kBlock) {
      return cross_moments_down<T, 11, kBlock>(f, i, y_, n, stride, mean, power, cross);
    }
    for (int r = 0; r < rows; ++r, mean += stride, power += stride, cross += stride) {
      if (count_y_ == 11) {
        cross_moments_down<T, 11, 1>(f + r, i + r, y_, n, stride, mean, power, cross);
      } else {
        cross_moments_down<T>(f + r, i + r, y_, count_y_, n, mean, power, cross);
      }
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
