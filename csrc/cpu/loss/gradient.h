// dL/dF of one row of pixels from the derivatives of the windows over it.
//
//   dL/dF = w * d_mean + 2 F (w * d_power) + sum_k I_k (w * d_cross_k)
#pragma once

#include "cpu/loss/quality.h"

namespace fastmef {
namespace {

template <class T>
class Gradient {
 public:
  Gradient(const Pass& pass, const Extent& extent, Arena& arena) : pass_(pass), extent_(extent) {
    maps_ = 2 + pass.count();
    stride_ = pass.stride();
    slots_ = pass.level.wy + kBlock - 1;
    spread_ = arena.take<T>(slots_ * maps_ * stride_);
    gathered_ = arena.take<T>(maps_ * kBlock * stride_);
    rows_ = arena.take<const T*>(slots_);
  }

  void clear() { memset(spread_, 0, sizeof(T) * slots_ * maps_ * stride_); }

  // Filters the derivatives of window row y along the row; beyond the last window they are zero.
  void spread_along(int64_t y, Quality<T>& quality, const Taps<T>& taps) {
    T* out = spread(y, 0);
    const int64_t end = quality.lead() + extent_.windows;
    for (int m = 0; m < maps_; ++m) {
      T* row = quality.derivative(m);
      memset(row + end, 0, sizeof(T) * (stride_ - end));
      taps.along(row, extent_.pixels, out + m * stride_);
    }
  }

  // No window begins in row y.
  void spread_nothing(int64_t y) { memset(spread(y, 0), 0, sizeof(T) * maps_ * stride_); }

  // Filters down the window rows that cover the pixel rows [r, r + rows), at most kBlock.
  void filter_down(int64_t r, int rows, const Taps<T>& taps) {
    const int wy = pass_.level.wy;
    first_ = r;
    if (pass_.level.share == 0) return;
    for (int m = 0; m < maps_; ++m) {
      for (int j = 0; j < wy + rows - 1; ++j) rows_[j] = spread(r - wy + 1 + j, m);
      taps.down(rows_, rows, extent_.pixels, stride_, gathered_ + m * kBlock * stride_);
    }
  }

  // dL/dF of pixel row r, which is filtered.
  T* gather(int64_t r, const Ring<T>& ring) {
    T* FASTMEF_RESTRICT sum = gathered(r, 0);
    if (pass_.level.share == 0) {
      memset(sum, 0, sizeof(T) * stride_);
      return sum;
    }
    const int64_t offset = extent_.c0 - extent_.b0;
    const T scale = static_cast<T>(pass_.scale);
    const T* FASTMEF_RESTRICT power = gathered(r, 1);
    const T* FASTMEF_RESTRICT fused = ring.row(r, 0) + offset;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < extent_.pixels; ++x)
      sum[x] = scale * (sum[x] + 2 * fused[x] * power[x]);
    for (int k = 0; k < pass_.count(); ++k) {
      const T* FASTMEF_RESTRICT cross = gathered(r, 2 + k);
      const T* FASTMEF_RESTRICT exposure = ring.row(r, k + 1) + offset;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < extent_.pixels; ++x) sum[x] += scale * exposure[x] * cross[x];
    }
    return sum;
  }

 private:
  T* spread(int64_t y, int m) const {
    return spread_ + ((y + slots_) % slots_ * maps_ + m) * stride_;
  }
  T* gathered(int64_t r, int m) const { return gathered_ + (m * kBlock + r - first_) * stride_; }

  const Pass& pass_;
  const Extent& extent_;
  int maps_, slots_;
  int64_t stride_;
  int64_t first_ = 0;  // of the filtered rows
  T *spread_, *gathered_;
  const T** rows_;
};

}  // namespace
}  // namespace fastmef
