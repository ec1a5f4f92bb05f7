// dL/dF of one row of pixels from the derivatives of the windows over it.
//
//   dL/dF = w * d_mean + 2 F (w * d_power) + sum_k I_k (w * d_cross_k)
#pragma once

#include "loss_quality.h"

namespace fastmef {
namespace {

template <class T>
class Gradient {
 public:
  Gradient(const Pass& pass, const Extent& extent, Arena& arena) : pass_(pass), extent_(extent) {
    maps_ = 2 + pass.count();
    stride_ = pass.stride();
    spread_ = arena.take<T>(pass.level.wy * maps_ * stride_);
    gathered_ = arena.take<T>(maps_ * stride_);
    rows_ = arena.take<const T*>(pass.level.wy);
  }

  void clear() { memset(spread_, 0, sizeof(T) * pass_.level.wy * maps_ * stride_); }

  // Filters the derivatives of window row y along the row; beyond the last window they are zero.
  void spread_along(int64_t y, Quality<T>& quality, const Taps<T>& taps) {
    T* out = spread_ + (y % pass_.level.wy) * maps_ * stride_;
    const int64_t end = quality.lead() + extent_.windows;
    for (int m = 0; m < maps_; ++m) {
      T* row = quality.derivative(m);
      memset(row + end, 0, sizeof(T) * (stride_ - end));
      taps.along(row, extent_.pixels, out + m * stride_);
    }
  }

  // No window begins in row y.
  void spread_nothing(int64_t y) {
    memset(spread_ + (y % pass_.level.wy) * maps_ * stride_, 0, sizeof(T) * maps_ * stride_);
  }

  // dL/dF of pixel row r, from the window rows that cover it.
  T* gather(int64_t r, const Ring<T>& ring, const Taps<T>& taps) {
    const int wy = pass_.level.wy;
    if (pass_.level.share == 0) {
      memset(gathered_, 0, sizeof(T) * stride_);
      return gathered_;
    }
    for (int m = 0; m < maps_; ++m) {
      for (int j = 0; j < wy; ++j) {
        rows_[j] = spread_ + ((r - j + wy) % wy * maps_ + m) * stride_;
      }
      taps.down(rows_, extent_.pixels, gathered_ + m * stride_);
    }
    const int64_t offset = extent_.c0 - extent_.b0;
    const T scale = static_cast<T>(pass_.scale);
    T* FASTMEF_RESTRICT sum = gathered_;
    const T* FASTMEF_RESTRICT power = gathered_ + stride_;
    const T* FASTMEF_RESTRICT fused = ring.row(r, 0) + offset;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < extent_.pixels; ++x)
      sum[x] = scale * (sum[x] + 2 * fused[x] * power[x]);
    for (int k = 0; k < pass_.count(); ++k) {
      const T* FASTMEF_RESTRICT cross = gathered_ + (2 + k) * stride_;
      const T* FASTMEF_RESTRICT exposure = ring.row(r, k + 1) + offset;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < extent_.pixels; ++x) sum[x] += scale * exposure[x] * cross[x];
    }
    return sum;
  }

 private:
  const Pass& pass_;
  const Extent& extent_;
  int maps_;
  int64_t stride_;
  T *spread_, *gathered_;
  const T** rows_;
};

}  // namespace
}  // namespace fastmef
