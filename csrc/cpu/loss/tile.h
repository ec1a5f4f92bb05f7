// The sweep of one tile of pixels from top to bottom.
//
// A ring keeps the last wy rows of F and the I_k. Each new row completes a row of windows: moments
// down the columns and along the row, gamma, SSIM, and the derivatives by F's moments. Those are
// filtered along the row into a second ring, and wy rows of it make the gradient of the pixel row
// that leaves the first ring. So every input is read once, the gradient is written once, and
// nothing else leaves the cache.
#pragma once

#include "cpu/loss/gradient.h"

namespace fastmef {
namespace {

template <class T>
class Tile {
 public:
  Tile(const Pass& pass, int64_t tile, Arena arena)
      : pass_(pass),
        extent_(pass, tile),
        ring_(pass, extent_, arena),
        taps_(pass.level.wy, pass.level.wx, arena),
        quality_(pass, extent_, arena),
        gradient_(pass, extent_, arena),
        rows_(pass, extent_.batch, arena),
        sums_(arena.take<double>(pass.stride())),
        doubled_(pass.sums ? arena.take<T>(pass.stride()) : nullptr),
        bytes_(arena.used()) {}

  static size_t scratch_bytes(const Pass& pass) { return Tile(pass, 0, Arena(nullptr)).bytes_; }

  // The sum over the windows that begin in the tile.
  double run() {
    if (extent_.windows <= 0 || (!pass_.with_gradient && extent_.a1 <= extent_.a0)) return 0.0;
    const Level& level = pass_.level;
    ring_.clear(rows_);
    taps_.fill(level.taps_y, level.taps_x);
    quality_.clear();
    gradient_.clear();
    memset(sums_, 0, sizeof(double) * pass_.stride());
    const int64_t lag = level.wy == 1 ? 1 : 0;  // the Sobel rows beside a window of one row
    int64_t next = most(0, extent_.a0 - lag);
    const int64_t last = pass_.with_gradient ? extent_.r1 : extent_.a1;
    for (int64_t y = extent_.a0; y < last; y += kBlock) {
      const int64_t end = least(y + kBlock, last);
      const int64_t needed = least(end + level.wy - 2 + lag, level.height - 1);
      // A finest level without a share only makes the sums of the coarser ones the gradient.
      const bool counts = level.share != 0;
      for (; next <= needed && (counts || pass_.writes_logits()); ++next) ring_.load(rows_, next);
      if (counts) compute_windows(y, end);
      if (pass_.with_gradient) write_gradient(most(y, extent_.r0), end);
    }
    double sum = 0.0;
    for (int64_t x = extent_.c0 - extent_.b0; x < extent_.windows; ++x) sum += sums_[x];
    return sum;
  }

  // The sum of the mask over the centres of the windows that begin in the tile.
  double mask_sum() {
    const Level& level = pass_.level;
    double sum = 0.0;
    for (int64_t y = extent_.r0; y < extent_.a1; ++y) {
      if (extent_.b1 <= extent_.c0) break;
      const int64_t begin = extent_.c0 + level.wx / 2;
      const int64_t n = extent_.b1 - extent_.c0;
      const T* row = rows_.mask_row(y + level.wy / 2, begin, begin + n);
      double row_sum = 0.0;
      for (int64_t x = 0; x < n; ++x) row_sum += row[x];
      sum += row_sum;
    }
    return sum;
  }

 private:
  // The rows of windows [y, end), as far as there are any.
  void compute_windows(int64_t y, int64_t end) {
    const int64_t above = least(end, extent_.a1);
    if (y < above) quality_.filter_moments(y, static_cast<int>(above - y), ring_, taps_);
    for (; y < end; ++y) {
      if (y < above) {
        quality_.compute(y, ring_, rows_);
        if (y >= extent_.r0) count_values(y);
        if (pass_.with_gradient) gradient_.spread_along(y, quality_, taps_);
      } else if (pass_.with_gradient) {
        gradient_.spread_nothing(y);
      }
    }
  }

  void count_values(int64_t y) {
    double* FASTMEF_RESTRICT sums = sums_;
    const T* FASTMEF_RESTRICT value = quality_.values();
    const int64_t n = round_up(extent_.windows);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) sums[x] += value[x];
    if (pass_.args.map.data) write_map(y, value);
  }

  void write_map(int64_t y, const T* value) {
    const Stack& map = pass_.args.map;
    const int64_t n = extent_.b1 - extent_.c0;
    const T* in = value + (extent_.c0 - extent_.b0);
    T* out = rows_.spare();
    for (int64_t x = 0; x < n; ++x) out[x] = 1 - in[x];
    write(map, offset_of(map, extent_.batch, 0, y, extent_.c0), 1, n, out);
  }

  // Of the pixel rows [y, end).
  void write_gradient(int64_t y, int64_t end) {
    if (y >= end) return;
    gradient_.filter_down(y, static_cast<int>(end - y), taps_);
    for (; y < end; ++y) write_row(y, gradient_.gather(y, ring_));
  }

  void write_row(int64_t y, T* by_fused) {
    if (pass_.index > 0) return add_to_sums(y, by_fused);
    if (pass_.sums) add_sums(y, by_fused);
    if (pass_.args.logits.data) return write_logits(y, by_fused);
    const Stack& gradient = pass_.args.gradient;
    write(gradient, offset_of(gradient, extent_.batch, 0, y, extent_.c0), 1, extent_.pixels,
          by_fused);
  }

  // Adds a row of a coarser level to the sums that it has a share in.
  void add_to_sums(int64_t y, T* by_fused) {
    const Level& target = pass_.args.levels[1];
    const int steps = pass_.index - 1;
    const int64_t x0 = base_begin(extent_.c0, steps, target.width);
    const int64_t n = base_begin(extent_.c1, steps, target.width) - x0;
    const int64_t y0 = base_begin(y, steps, target.height);
    const int64_t y1 = base_begin(y + 1, steps, target.height);
    const T* FASTMEF_RESTRICT in = rows_.spread(by_fused, extent_.c0, extent_.c1);
    T* FASTMEF_RESTRICT out = rows_.spare();
    for (int64_t row = y0; row < y1; ++row) {
      const T share = static_cast<T>(base_share(row, steps, target.height));
      if (pass_.accumulate) {
        pass_.sums->read(extent_.batch, row, x0, n, out);
        for (int64_t x = 0; x < n; ++x) out[x] += share * in[x];
      } else {
        for (int64_t x = 0; x < n; ++x) out[x] = share * in[x];
      }
      pass_.sums->write(extent_.batch, row, x0, n, out);
    }
  }

  // Adds the share of row y in the sums. Tiles begin in even rows: the first of two rows reads the
  // sums of both, before the gradient takes their room.
  void add_sums(int64_t y, T* FASTMEF_RESTRICT by_fused) {
    if (y % 2 == 0) {
      T* sums = rows_.spare();
      pass_.sums->read(extent_.batch, y / 2, extent_.c0 / 2, (extent_.pixels + 1) / 2, sums);
      double_row(sums, extent_.pixels, doubled_);
    }
    const T share = static_cast<T>(base_share(y, 1, pass_.level.height));
    const T* FASTMEF_RESTRICT doubled = doubled_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < extent_.pixels; ++x) by_fused[x] += share * doubled[x];
  }

  // A row of the gradient to write in: the array itself where it is of type T.
  T* output_row(int64_t offset) {
    const Stack& gradient = pass_.args.gradient;
    return holds(gradient, T()) ? reinterpret_cast<T*>(address(gradient, offset)) : rows_.spare();
  }

  // dL/dlogits_k = W_k (I_k - F) dL/dF.
  void write_logits(int64_t y, const T* FASTMEF_RESTRICT by_fused) {
    const Stack& gradient = pass_.args.gradient;
    const int64_t first = extent_.c0 - extent_.b0;
    const T* FASTMEF_RESTRICT fused = ring_.row(y, 0) + first;
    for (int k = 0; k < pass_.count(); ++k) {
      const T* FASTMEF_RESTRICT weight = ring_.weights(y, k) + first;
      const T* FASTMEF_RESTRICT exposure = ring_.row(y, k + 1) + first;
      const int64_t at = offset_of(gradient, extent_.batch, k, y, extent_.c0);
      T* FASTMEF_RESTRICT out = output_row(at);
      const T offset = ring_.shift(k + 1) - ring_.shift(0);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < extent_.pixels; ++x) {
        out[x] = weight[x] * (exposure[x] - fused[x] + offset) * by_fused[x];
      }
      if (!holds(gradient, T())) write(gradient, at, 1, extent_.pixels, out);
    }
  }

  const Pass& pass_;
  Extent extent_;
  Ring<T> ring_;
  Taps<T> taps_;
  Quality<T> quality_;
  Gradient<T> gradient_;
  Rows<T> rows_;
  double* sums_;
  T* doubled_;  // sums of the coarser levels over two rows
  size_t bytes_;
};

}  // namespace
}  // namespace fastmef
