// sum_k gamma_k SSIM(F, I_k) of one row of windows, and its derivatives by the moments of F.
#pragma once

#include "common/attributes.h"
#include "common/similarity.h"
#include "cpu/loss/ring.h"
#include "cpu/window/taps.h"

namespace fastmef {
namespace {

template <class T>
class Quality {
 public:
  Quality(const Pass& pass, const Extent& extent, Arena& arena) : pass_(pass), extent_(extent) {
    const int count = pass.count();
    stride_ = pass.stride();
    down_ = arena.take<T>(3 * kBlock * stride_);
    moments_ = arena.take<T>((2 + 3 * count) * kBlock * stride_);
    importance_ = arena.take<T>(count * stride_);
    total_ = arena.take<T>(stride_);
    value_ = arena.take<T>(stride_);
    derivatives_ = arena.take<T>(maps() * stride_);
    fused_rows_ = arena.take<const T*>(pass.level.wy + kBlock - 1);
    exposure_rows_ = arena.take<const T*>(pass.level.wy + kBlock - 1);
  }

  // Derivatives by E[F], by E[F^2] and by every E[F I_k].
  int maps() const { return 2 + pass_.count(); }
  T* derivative(int map) { return derivatives_ + map * stride_; }
  // Where the first window lies in a row of derivatives, which begins wx - 1 before the tile.
  int64_t lead() const { return extent_.b0 - extent_.c0 + pass_.level.wx - 1; }
  // One for each window of the row that compute() was last called for.
  const T* values() const { return value_; }

  // Padding is read as zero.
  void clear() {
    memset(down_, 0, sizeof(T) * 3 * kBlock * stride_);
    memset(derivatives_, 0, sizeof(T) * maps() * stride_);
  }

  // E[F], E[F^2] and for every exposure E[I], E[I^2], E[F I] of the windows that begin in rows
  // [y, y + rows), at most kBlock; their pixels are in the ring.
  void filter_moments(int64_t y, int rows, const Ring<T>& ring, const Taps<T>& taps) {
    const int under = pass_.level.wy + rows - 1;
    first_ = y;
    for (int j = 0; j < under; ++j) fused_rows_[j] = ring.row(y + j, 0);
    taps.moments(fused_rows_, rows, extent_.inputs, stride_, down(0), down(1));
    for (int m = 0; m < 2; ++m) along(m, m, rows, taps);
    for (int k = 0; k < pass_.count(); ++k) {
      for (int j = 0; j < under; ++j) exposure_rows_[j] = ring.row(y + j, k + 1);
      taps.cross_moments(fused_rows_, exposure_rows_, rows, extent_.inputs, stride_, down(0),
                         down(1), down(2));
      for (int m = 0; m < 3; ++m) along(m, 2 + 3 * k + m, rows, taps);
    }
  }

  // The windows that begin in row y, whose moments are known.
  void compute(int64_t y, const Ring<T>& ring, Rows<T>& rows) {
    row_ = static_cast<int>(y - first_);
    weigh_exposures(y, ring, rows);
    memset(value_, 0, sizeof(T) * round_up(extent_.windows));
    if (pass_.with_gradient) memset(derivatives_, 0, sizeof(T) * 2 * stride_);
    const bool luminance = pass_.args.luminance, gradient = pass_.with_gradient;
    for (int k = 0; k < pass_.count(); ++k) {
      if (luminance) {
        gradient ? compare<true, true>(k, ring) : compare<true, false>(k, ring);
      } else {
        gradient ? compare<false, true>(k, ring) : compare<false, false>(k, ring);
      }
    }
  }

 private:
  // Of kBlock rows.
  T* down(int index) const { return down_ + index * kBlock * stride_; }
  // Of the row of windows at hand.
  T* moment(int index) const { return moments_ + (index * kBlock + row_) * stride_; }

  void along(int from, int to, int rows, const Taps<T>& taps) {
    for (int r = 0; r < rows; ++r) {
      taps.along(down(from) + r * stride_, extent_.windows, moments_ + (to * kBlock + r) * stride_);
    }
  }

  // total_ = weight / (sum_k A_k + eps), importance_[k] = A_k.
  void weigh_exposures(int64_t y, const Ring<T>& ring, Rows<T>& rows) {
    const LossArgs& args = pass_.args;
    const Level& level = pass_.level;
    const int64_t n = round_up(extent_.windows);
    const int64_t row = y + level.wy / 2;
    const int64_t above = most(row - 1, 0), below = least(row + 1, level.height - 1);
    T* FASTMEF_RESTRICT total = total_;
    for (int k = 0; k < pass_.count(); ++k) {
      T* FASTMEF_RESTRICT a = importance_ + k * stride_;
      const T* FASTMEF_RESTRICT mean = moment(2 + 3 * k);
      const T* FASTMEF_RESTRICT power = moment(3 + 3 * k);
      const T* FASTMEF_RESTRICT r0 = ring.row(above, k + 1) + level.wx / 2;
      const T* FASTMEF_RESTRICT r1 = ring.row(row, k + 1) + level.wx / 2;
      const T* FASTMEF_RESTRICT r2 = ring.row(below, k + 1) + level.wx / 2;
      const T floor = static_cast<T>(args.floor);
      const T shift = ring.shift(k + 1);
      if (args.attributes & kVariance) {
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < n; ++x) a[x] = local_variance(mean[x], power[x], floor);
      } else {
        for (int64_t x = 0; x < n; ++x) a[x] = 1;
      }
      if (args.attributes & kGradient) {
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < n; ++x) {
          a[x] *= square_root(sobel_squared(r0[x - 1], r0[x], r0[x + 1], r1[x - 1], r1[x + 1],
                                            r2[x - 1], r2[x], r2[x + 1]));
        }
      }
      if (args.attributes & kWellExposedness) {
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < n; ++x) a[x] *= well_exposedness(r1[x] + shift);
      }
      if (k == 0) {
        for (int64_t x = 0; x < n; ++x) total[x] = a[x];
      } else {
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < n; ++x) total[x] += a[x];
      }
    }
    const T eps = static_cast<T>(args.eps);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) total[x] = T(1) / (total[x] + eps);
    if (args.weight.data) {
      const T* weight = rows.window_weights(y, extent_.b0, extent_.b1);
      for (int64_t x = 0; x < extent_.windows; ++x) total[x] *= weight[x];
    }
  }

  template <bool Luminance, bool Gradient>
  void compare(int k, const Ring<T>& ring) {
    const LossArgs& args = pass_.args;
    const int64_t n = round_up(extent_.windows);
    const T* FASTMEF_RESTRICT mean_f = moment(0);
    const T* FASTMEF_RESTRICT power_f = moment(1);
    const T* FASTMEF_RESTRICT mean_i = moment(2 + 3 * k);
    const T* FASTMEF_RESTRICT power_i = moment(3 + 3 * k);
    const T* FASTMEF_RESTRICT cross = moment(4 + 3 * k);
    const T* FASTMEF_RESTRICT total = total_;
    const T* FASTMEF_RESTRICT importance = importance_ + k * stride_;
    T* FASTMEF_RESTRICT value = value_;
    T* FASTMEF_RESTRICT by_mean = derivative(0) + lead();
    T* FASTMEF_RESTRICT by_power = derivative(1) + lead();
    T* FASTMEF_RESTRICT by_cross = derivative(2 + k) + lead();
    const T c1 = static_cast<T>(args.c1), c2 = static_cast<T>(args.c2);
    const T shift_f = ring.shift(0), shift_i = ring.shift(k + 1);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T gamma = importance[x] * total[x];
      const Similarity<T> s = similarity<T, Luminance>(mean_f[x], mean_i[x], power_f[x], power_i[x],
                                                       cross[x], shift_f, shift_i, c1, c2);
      value[x] += gamma * s.value;
      if (Gradient) {
        by_mean[x] += gamma * s.by_mean;
        by_power[x] += gamma * s.by_power;
        by_cross[x] = gamma * s.by_cross;
      }
    }
  }

  const Pass& pass_;
  const Extent& extent_;
  int64_t stride_;
  int64_t first_ = 0;  // row of windows whose moments are known
  int row_ = 0;        // from it
  T *down_, *moments_, *importance_, *total_, *value_, *derivatives_;
  const T **fused_rows_, **exposure_rows_;
};

}  // namespace
}  // namespace fastmef
