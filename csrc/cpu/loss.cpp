// The weighted SSIM loss and its gradient by the fused image (or the logits behind it) in one sweep.
//
//   loss_s = 1 - sum_p m(p) sum_k gamma_k(p) SSIM(F, I_k)(p) / sum_p m(p)
//   dL/dF  = w * d_mean + 2 F (w * d_power) + sum_k I_k (w * d_cross_k)
//
// A tile of pixels is swept from top to bottom. A ring keeps the last wy rows of F and the I_k, minus
// a constant of the tile. Each new row completes a row of windows: moments down the columns and along
// the row, gamma, SSIM, and the derivatives by F's moments. Those are filtered along the row into a
// second ring, and wy rows of it make the gradient of the pixel row that leaves the first ring. So
// every input is read once, the gradient is written once, and nothing else leaves the cache.
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.

#include "loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/attributes.h"
#include "../common/similarity.h"
#include "arena.h"
#include "filter_rows.h"
#include "parallel.h"
#include "pyramid.h"
#include "softmax_rows.h"
#include "variant.h"

namespace fastmef {
namespace {

constexpr int64_t kTileColumns = 256;  // rings of two exposures then stay near the first-level cache
constexpr int64_t kTileRows = 128;     // halo rows are computed twice: 8 % of the work at this height
constexpr int64_t kTiles = 64;         // enough for many threads; strips are not cut further

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

// The division of the work. It depends on the shape alone, so sums are formed in the same order for
// any number of threads.
struct Grid {
  int64_t tile_rows, tile_columns, rows, columns, count;

  Grid(int64_t batch, const Level& level) {
    columns = (level.width + kTileColumns - 1) / kTileColumns;
    tile_columns = round_up((level.width + columns - 1) / columns);
    columns = (level.width + tile_columns - 1) / tile_columns;
    const int64_t wanted = (kTiles + batch * columns - 1) / (batch * columns);
    rows = most(1, least(wanted, (level.height + kTileRows / 2) / kTileRows));
    tile_rows = (level.height + rows - 1) / rows;
    rows = (level.height + tile_rows - 1) / tile_rows;
    count = batch * rows * columns;
  }
};

template <class T>
const T* row_of(const View& view, int64_t b, int64_t k, int64_t y) {
  return static_cast<const T*>(view.data) + b * view.plane + k * view.layer + y * view.row;
}

// `n` values from column x on: the array itself where columns are adjacent, a copy elsewhere.
template <class T>
const T* contiguous_row(const View& view, int64_t b, int64_t k, int64_t y, int64_t x, int64_t n,
                        T* copy) {
  const T* row = row_of<T>(view, b, k, y) + x * view.column;
  if (view.column == 1) return row;
  for (int64_t i = 0; i < n; ++i) copy[i] = row[i * view.column];
  return copy;
}

// Everything the tiles of one level share.
template <class T>
struct Pass {
  const LossArgs& args;
  int index;  // of the level
  const Level& level;
  Grid grid;
  bool with_gradient;
  bool accumulate;   // add to the gradient instead of writing it
  bool defer;        // leave dL/dF in the first plane of the logits' gradient
  double scale;      // dL / d(sum of weighted quality)
  double* partials;  // one sum a tile

  int count() const { return static_cast<int>(args.exposures_count); }
  const Level& base() const { return args.levels[0]; }
};

template <class T>
class Tile {
 public:
  Tile(const Pass<T>& pass, int64_t tile, void* scratch) : pass_(pass) {
    const Level& level = pass.level;
    const Grid& grid = pass.grid;
    batch_ = tile / (grid.rows * grid.columns);
    r0_ = tile / grid.columns % grid.rows * grid.tile_rows;
    c0_ = tile % grid.columns * grid.tile_columns;
    r1_ = least(r0_ + grid.tile_rows, level.height);
    c1_ = least(c0_ + grid.tile_columns, level.width);
    const int64_t windows_y = level.height - level.wy + 1;
    const int64_t windows_x = level.width - level.wx + 1;
    // The gradient of the tile's pixels needs the windows that begin up to a window earlier.
    a0_ = pass.with_gradient ? most(0, r0_ - level.wy + 1) : r0_;
    b0_ = pass.with_gradient ? most(0, c0_ - level.wx + 1) : c0_;
    a1_ = least(r1_, windows_y);
    b1_ = least(c1_, windows_x);
    windows_ = b1_ - b0_;
    inputs_ = windows_ + level.wx - 1;
    pixels_ = c1_ - c0_;
    Arena arena(scratch);
    carve(arena);
  }

  static size_t scratch_bytes(const Pass<T>& pass) {
    Arena arena(nullptr);
    Tile counting(pass);
    counting.carve(arena);
    return arena.used();
  }

  // The sum over the windows that begin in the tile.
  double run() {
    if (windows_ <= 0 || (!pass_.with_gradient && a1_ <= a0_)) return 0.0;
    const Level& level = pass_.level;
    choose_shifts();
    clear();
    const int64_t lag = level.wy == 1 ? 1 : 0;  // the Sobel rows beside a window of one row
    int64_t next = most(0, a0_ - lag);
    const int64_t last = pass_.with_gradient ? r1_ : a1_;
    for (int64_t y = a0_; y < last; ++y) {
      const bool has_windows = y < a1_;
      if (has_windows) {
        const int64_t needed = least(y + level.wy - 1 + lag, level.height - 1);
        for (; next <= needed; ++next) load(next);
        quality(y);
      }
      if (pass_.with_gradient) {
        spread_along(y, has_windows);
        if (y >= r0_) emit(y);
      }
    }
    double sum = 0.0;
    for (int64_t x = c0_ - b0_; x < windows_; ++x) sum += sums_[x];
    return sum;
  }

 private:
  explicit Tile(const Pass<T>& pass) : pass_(pass) {
    pixels_ = pass.grid.tile_columns;
    windows_ = pixels_ + pass.level.wx - 1;
    inputs_ = windows_ + pass.level.wx - 1;
    c0_ = 0, c1_ = pixels_;
  }

  void carve(Arena& arena) {
    const Level& level = pass_.level;
    const int count = pass_.count();
    // Sized for the largest tile, so that every tile of a pass fits the same scratch.
    const int64_t pixels = pass_.grid.tile_columns;
    slots_ = level.wy + 2;
    stride_ = round_up(pixels + 2 * (level.wx - 1)) + round_up(level.wx) + 2 * kLane;
    maps_ = 2 + count;
    const bool keep_weights = pass_.args.logits.data && pass_.with_gradient && direct();
    ring_ = arena.take<T>(slots_ * (count + 1) * stride_);
    ring_weights_ = keep_weights ? arena.take<T>(slots_ * count * stride_) : nullptr;
    down_ = arena.take<T>(stride_);
    moments_ = arena.take<T>((2 + 3 * count) * stride_);
    importance_ = arena.take<T>(count * stride_);
    total_ = arena.take<T>(stride_);
    value_ = arena.take<T>(stride_);
    sums_ = arena.take<double>(stride_);
    derivatives_ = arena.take<T>(maps_ * stride_);
    spread_ = arena.take<T>(level.wy * maps_ * stride_);
    gathered_ = arena.take<T>(maps_ * stride_);
    taps_y_ = arena.take<T>(level.wy);
    taps_x_ = arena.take<T>(level.wx);
    shifts_ = arena.take<T>(count + 1);
    rows_a_ = arena.take<const T*>(level.wy);
    rows_b_ = arena.take<const T*>(level.wy);
    // Full-size rows: the copies of strided rows, the weights, and the pyramid's steps.
    const int64_t wide = least(pass_.base().width, base_begin(stride_, pass_.index, int64_t(1) << 40));
    wide_ = round_up(wide) + kLane;
    wide_fused_ = arena.take<T>(wide_);
    wide_highest_ = arena.take<T>(wide_);
    wide_total_ = arena.take<T>(wide_);
    wide_exposures_ = arena.take<T>(count * wide_);
    wide_logits_ = arena.take<T>(count * wide_);
    wide_weights_ = arena.take<T>(count * wide_);
    wide_sums_ = arena.take<T>((count + 1) * wide_);
    wide_step_ = arena.take<T>(wide_);
    pointers_ = arena.take<const T*>(2 * count);
    weights_ = arena.take<T*>(count);
  }

  bool direct() const { return pass_.index == 0 && !pass_.defer; }

  T* ring(int64_t row, int plane) const {
    return ring_ + ((row % slots_) * (pass_.count() + 1) + plane) * stride_ + kLane;
  }
  T* ring_weights(int64_t row, int k) const {
    return ring_weights_ + ((row % slots_) * pass_.count() + k) * stride_ + kLane;
  }
  T* moment(int index) const { return moments_ + index * stride_; }

  // Buffers whose padding is read as zero.
  void clear() {
    const Level& level = pass_.level;
    const int count = pass_.count();
    memset(ring_, 0, sizeof(T) * slots_ * (count + 1) * stride_);
    memset(down_, 0, sizeof(T) * stride_);
    memset(sums_, 0, sizeof(double) * stride_);
    memset(derivatives_, 0, sizeof(T) * maps_ * stride_);
    memset(spread_, 0, sizeof(T) * level.wy * maps_ * stride_);
    for (int j = 0; j < level.wy; ++j) taps_y_[j] = static_cast<T>(level.taps_y[j]);
    for (int j = 0; j < level.wx; ++j) taps_x_[j] = static_cast<T>(level.taps_x[j]);
  }

  // A constant near the values of the tile for each plane, from a coarse sample: subtracting it keeps
  // E[x^2] - E[x]^2 from cancelling.
  void choose_shifts() {
    const int count = pass_.count();
    const Level& base = pass_.base();
    const int64_t y0 = base_begin(r0_, pass_.index, base.height - 1);
    const int64_t y1 = base_begin(r1_, pass_.index, base.height);
    const int64_t x0 = base_begin(c0_, pass_.index, base.width - 1);
    const int64_t x1 = base_begin(c1_, pass_.index, base.width);
    const int64_t step_y = most(1, (y1 - y0) / 8);
    const int64_t step_x = most(1, (x1 - x0) / 8);
    for (int k = 0; k <= count; ++k) shifts_[k] = 0;
    int64_t samples = 0;
    for (int64_t y = y0; y < most(y1, y0 + 1); y += step_y) {
      for (int64_t x = x0; x < most(x1, x0 + 1); x += step_x, ++samples) sample(y, x);
    }
    for (int k = 0; k <= count; ++k) shifts_[k] /= static_cast<T>(samples);
  }

  void sample(int64_t y, int64_t x) {
    const LossArgs& args = pass_.args;
    const int count = pass_.count();
    T fused = 0;
    T highest = 0, total = 0;
    for (int k = 0; k < count; ++k) {
      const T exposure = row_of<T>(args.exposures, batch_, k, y)[x * args.exposures.column];
      shifts_[k + 1] += exposure;
      if (!args.logits.data) continue;
      const T logit = row_of<T>(args.logits, batch_, k, y)[x * args.logits.column];
      // Softmax in one pass: the sums so far are rescaled when a larger logit turns up.
      if (k == 0 || logit > highest) {
        const T rescale = k == 0 ? T(0) : exp_nonpositive(highest - logit);
        total *= rescale;
        fused *= rescale;
        highest = logit;
      }
      const T weight = exp_nonpositive(logit - highest);
      total += weight;
      fused += weight * exposure;
    }
    if (args.logits.data) {
      shifts_[0] += fused / total;
    } else {
      shifts_[0] += row_of<T>(args.fused, batch_, 0, y)[x * args.fused.column];
    }
  }

  // Columns [x, x + n) of full-size row y: sets pointers_[k] to the exposures, fills the rows
  // weights_[k] where F is made from logits, and returns F.
  const T* full_row(int64_t y, int64_t x, int64_t n) {
    const LossArgs& args = pass_.args;
    const int count = pass_.count();
    const T** exposures = pointers_;
    const T** logits = pointers_ + count;
    for (int k = 0; k < count; ++k) {
      exposures[k] =
          contiguous_row(args.exposures, batch_, k, y, x, n, wide_exposures_ + k * wide_);
    }
    if (!args.logits.data) return contiguous_row(args.fused, batch_, 0, y, x, n, wide_fused_);
    for (int k = 0; k < count; ++k) {
      logits[k] = contiguous_row(args.logits, batch_, k, y, x, n, wide_logits_ + k * wide_);
    }
    softmax_row(logits, count, n, weights_, wide_highest_, wide_total_);
    weighted_sum_row(weights_, exposures, count, n, wide_fused_);
    return wide_fused_;
  }

  // Brings row y of the level into the ring.
  void load(int64_t y) {
    const Level& level = pass_.level;
    const int count = pass_.count();
    const int64_t begin = most(b0_ - 1, 0);
    const int64_t end = least(b0_ + inputs_ + 1, level.width);
    const int64_t offset = begin - b0_;
    if (pass_.index == 0) {
      for (int k = 0; k < count; ++k) {
        weights_[k] = ring_weights_ ? ring_weights(y, k) + offset : wide_weights_ + k * wide_;
      }
      const T* fused = full_row(y, begin, end - begin);
      store(y, 0, fused, begin, end);
      for (int k = 0; k < count; ++k) store(y, k + 1, pointers_[k], begin, end);
      return;
    }
    const Level& base = pass_.base();
    const int64_t x0 = base_begin(begin, pass_.index, base.width);
    const int64_t x1 = base_begin(end, pass_.index, base.width);
    const int64_t y0 = base_begin(y, pass_.index, base.height);
    const int64_t y1 = base_begin(y + 1, pass_.index, base.height);
    for (int k = 0; k < count; ++k) weights_[k] = wide_weights_ + k * wide_;
    for (int64_t row = y0; row < y1; ++row) {
      const T* fused = full_row(row, x0, x1 - x0);
      const T share = static_cast<T>(base_share(row, pass_.index, base.height));
      for (int k = 0; k <= count; ++k) {
        const T* FASTMEF_RESTRICT in = k ? pointers_[k - 1] : fused;
        T* FASTMEF_RESTRICT sum = wide_sums_ + k * wide_;
        if (row == y0) {
          for (int64_t x = 0; x < x1 - x0; ++x) sum[x] = share * in[x];
        } else {
          for (int64_t x = 0; x < x1 - x0; ++x) sum[x] += share * in[x];
        }
      }
    }
    for (int k = 0; k <= count; ++k) {
      T* from = wide_sums_ + k * wide_;
      T* to = wide_step_;
      int64_t n = x1 - x0;
      for (int s = 0; s < pass_.index; ++s) {
        n = halve_row(from, n, to);
        T* swap = from;
        from = to;
        to = swap;
      }
      store(y, k, from, begin, end);
    }
  }

  void store(int64_t y, int plane, const T* FASTMEF_RESTRICT in, int64_t begin, int64_t end) {
    T* out = ring(y, plane);
    T* FASTMEF_RESTRICT row = out + (begin - b0_);
    const T shift = shifts_[plane];
    const int64_t n = end - begin;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) row[x] = in[x] - shift;
    if (b0_ == 0) out[-1] = out[0];
    if (b0_ + inputs_ >= pass_.level.width) out[inputs_] = out[inputs_ - 1];
  }

  void filter_along(const T* in, int64_t n, T* out) {
    if (pass_.level.wx == 11) {
      mean_along<T, 11>(in, taps_x_, 11, n, out);
    } else {
      mean_along<T, 0>(in, taps_x_, pass_.level.wx, n, out);
    }
  }

  // E[F], E[F^2] and for every exposure E[I], E[I^2], E[F I] of the windows of row y.
  void filter_moments(int64_t y) {
    const int wy = pass_.level.wy;
    const int count = pass_.count();
    // Down the columns into the derivatives' and gathered rows, which are free at this point.
    T* down[3] = {down_, gathered_, gathered_ + stride_};
    for (int j = 0; j < wy; ++j) rows_a_[j] = ring(y + j, 0);
    if (wy == 11) {
      moments_down<T, 11>(rows_a_, taps_y_, 11, inputs_, down[0], down[1]);
    } else {
      moments_down<T, 0>(rows_a_, taps_y_, wy, inputs_, down[0], down[1]);
    }
    for (int m = 0; m < 2; ++m) filter_along(down[m], windows_, moment(m));
    for (int k = 0; k < count; ++k) {
      for (int j = 0; j < wy; ++j) rows_b_[j] = ring(y + j, k + 1);
      if (wy == 11) {
        cross_moments_down<T, 11>(rows_a_, rows_b_, taps_y_, 11, inputs_, down[0], down[1], down[2]);
      } else {
        cross_moments_down<T, 0>(rows_a_, rows_b_, taps_y_, wy, inputs_, down[0], down[1], down[2]);
      }
      for (int m = 0; m < 3; ++m) filter_along(down[m], windows_, moment(2 + 3 * k + m));
    }
  }

  // total_ = weight / (sum_k A_k + eps), importance_[k] = A_k.
  void weigh_exposures(int64_t y) {
    const LossArgs& args = pass_.args;
    const Level& level = pass_.level;
    const int64_t n = round_up(windows_);
    const int64_t row = y + level.wy / 2;
    const int64_t above = most(row - 1, 0), below = least(row + 1, level.height - 1);
    T* FASTMEF_RESTRICT total = total_;
    for (int k = 0; k < pass_.count(); ++k) {
      T* FASTMEF_RESTRICT a = importance_ + k * stride_;
      const T* FASTMEF_RESTRICT mean = moment(2 + 3 * k);
      const T* FASTMEF_RESTRICT power = moment(3 + 3 * k);
      const T* FASTMEF_RESTRICT r0 = ring(above, k + 1) + level.wx / 2;
      const T* FASTMEF_RESTRICT r1 = ring(row, k + 1) + level.wx / 2;
      const T* FASTMEF_RESTRICT r2 = ring(below, k + 1) + level.wx / 2;
      const T floor = static_cast<T>(args.floor);
      const T shift = shifts_[k + 1];
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
      const T* weight = window_weights(y);
      for (int64_t x = 0; x < windows_; ++x) total[x] *= weight[x];
    }
  }

  const T* window_weights(int64_t y) {
    const LossArgs& args = pass_.args;
    const Level& level = pass_.level;
    if (!args.weight_is_mask) {
      return contiguous_row(args.weight, batch_, 0, y, b0_, windows_, wide_fused_);
    }
    const int64_t begin = b0_ + level.wx / 2;
    return mask_row(y + level.wy / 2, begin, begin + windows_);
  }

 public:
  // Columns [begin, end) of row y of the level's mask.
  const T* mask_row(int64_t y, int64_t begin, int64_t end) {
    const LossArgs& args = pass_.args;
    const Level& base = pass_.base();
    const int64_t x0 = base_begin(begin, pass_.index, base.width);
    const int64_t x1 = base_begin(end, pass_.index, base.width);
    if (pass_.index == 0) return contiguous_row(args.weight, batch_, 0, y, x0, x1 - x0, wide_fused_);
    const int64_t y0 = base_begin(y, pass_.index, base.height);
    const int64_t y1 = base_begin(y + 1, pass_.index, base.height);
    T* from = wide_sums_;
    T* to = wide_step_;
    for (int64_t x = 0; x < x1 - x0; ++x) from[x] = 0;
    for (int64_t row = y0; row < y1; ++row) {
      const T* in = contiguous_row(args.weight, batch_, 0, row, x0, x1 - x0, wide_fused_);
      const T share = static_cast<T>(base_share(row, pass_.index, base.height));
      for (int64_t x = 0; x < x1 - x0; ++x) from[x] += share * in[x];
    }
    int64_t n = x1 - x0;
    for (int s = 0; s < pass_.index; ++s) {
      n = halve_row(from, n, to);
      T* swap = from;
      from = to;
      to = swap;
    }
    return from;
  }

  // The sum of the mask over the centres of the windows that begin in the tile.
  double mask_sum() {
    const Level& level = pass_.level;
    double sum = 0.0;
    for (int64_t y = r0_; y < a1_; ++y) {
      if (b1_ <= c0_) break;
      const int64_t begin = c0_ + level.wx / 2;
      const T* row = mask_row(y + level.wy / 2, begin, begin + b1_ - c0_);
      double row_sum = 0.0;
      for (int64_t x = 0; x < b1_ - c0_; ++x) row_sum += row[x];
      sum += row_sum;
    }
    return sum;
  }

 private:
  // sum_k gamma_k SSIM_k of the windows of row y, and its derivatives by F's moments.
  template <bool Luminance, bool Gradient>
  void compare(int k) {
    const LossArgs& args = pass_.args;
    const int64_t n = round_up(windows_);
    const T* FASTMEF_RESTRICT mean_f = moment(0);
    const T* FASTMEF_RESTRICT power_f = moment(1);
    const T* FASTMEF_RESTRICT mean_i = moment(2 + 3 * k);
    const T* FASTMEF_RESTRICT power_i = moment(3 + 3 * k);
    const T* FASTMEF_RESTRICT cross = moment(4 + 3 * k);
    const T* FASTMEF_RESTRICT total = total_;
    const T* FASTMEF_RESTRICT importance = importance_ + k * stride_;
    T* FASTMEF_RESTRICT value = value_;
    T* FASTMEF_RESTRICT by_mean = derivatives_ + lead();
    T* FASTMEF_RESTRICT by_power = derivatives_ + stride_ + lead();
    T* FASTMEF_RESTRICT by_cross = derivatives_ + (2 + k) * stride_ + lead();
    const T c1 = static_cast<T>(args.c1), c2 = static_cast<T>(args.c2);
    const T shift_f = shifts_[0], shift_i = shifts_[k + 1];
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

  void quality(int64_t y) {
    filter_moments(y);
    weigh_exposures(y);
    memset(value_, 0, sizeof(T) * round_up(windows_));
    if (pass_.with_gradient) {
      for (int m = 0; m < 2; ++m) memset(derivatives_ + m * stride_, 0, sizeof(T) * stride_);
    }
    const bool luminance = pass_.args.luminance, gradient = pass_.with_gradient;
    for (int k = 0; k < pass_.count(); ++k) {
      if (luminance) {
        gradient ? compare<true, true>(k) : compare<true, false>(k);
      } else {
        gradient ? compare<false, true>(k) : compare<false, false>(k);
      }
    }
    if (y >= r0_) {
      double* FASTMEF_RESTRICT sums = sums_;
      const T* FASTMEF_RESTRICT value = value_;
      const int64_t n = round_up(windows_);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) sums[x] += value[x];
      if (pass_.args.map) write_map(y);
    }
  }

  void write_map(int64_t y) {
    const Level& level = pass_.level;
    const int64_t columns = level.width - level.wx + 1;
    const int64_t rows = level.height - level.wy + 1;
    T* out = static_cast<T*>(pass_.args.map) + (batch_ * rows + y) * columns;
    for (int64_t x = c0_; x < b1_; ++x) out[x] = 1 - value_[x - b0_];
  }

  // Where the first window of a row lies in a row of derivatives, which begins wx - 1 before c0.
  int64_t lead() const { return b0_ - c0_ + pass_.level.wx - 1; }

  // Filters the derivatives of window row y along the row; beyond the last window they are zero.
  void spread_along(int64_t y, bool has_windows) {
    T* out = spread_ + (y % pass_.level.wy) * maps_ * stride_;
    if (!has_windows) {
      memset(out, 0, sizeof(T) * maps_ * stride_);
      return;
    }
    for (int m = 0; m < maps_; ++m) {
      T* row = derivatives_ + m * stride_;
      memset(row + lead() + windows_, 0, sizeof(T) * (stride_ - lead() - windows_));
      filter_along(row, pixels_, out + m * stride_);
    }
  }

  // The gradient of pixel row r, from the window rows that cover it.
  void emit(int64_t r) {
    const int wy = pass_.level.wy;
    const int count = pass_.count();
    for (int m = 0; m < maps_; ++m) {
      for (int j = 0; j < wy; ++j) {
        rows_a_[j] = spread_ + ((r - j + wy) % wy * maps_ + m) * stride_;
      }
      T* out = gathered_ + m * stride_;
      if (wy == 11) {
        mean_down<T, 11>(rows_a_, taps_y_, 11, pixels_, out);
      } else {
        mean_down<T, 0>(rows_a_, taps_y_, wy, pixels_, out);
      }
    }
    const T scale = static_cast<T>(pass_.scale);
    T* FASTMEF_RESTRICT sum = gathered_;
    const T* FASTMEF_RESTRICT power = gathered_ + stride_;
    const T* FASTMEF_RESTRICT fused = ring(r, 0) + (c0_ - b0_);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < pixels_; ++x) sum[x] = scale * (sum[x] + 2 * fused[x] * power[x]);
    for (int k = 0; k < count; ++k) {
      const T* FASTMEF_RESTRICT cross = gathered_ + (2 + k) * stride_;
      const T* FASTMEF_RESTRICT exposure = ring(r, k + 1) + (c0_ - b0_);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < pixels_; ++x) sum[x] += scale * exposure[x] * cross[x];
    }
    if (direct() && pass_.args.logits.data) {
      write_logits(r, sum, fused);
    } else {
      write_fused(r, sum);
    }
  }

  // dL/dlogits_k = W_k (I_k - F) dL/dF.
  void write_logits(int64_t r, const T* FASTMEF_RESTRICT by_fused, const T* FASTMEF_RESTRICT fused) {
    const Level& base = pass_.base();
    const int count = pass_.count();
    for (int k = 0; k < count; ++k) {
      const T* FASTMEF_RESTRICT weight = ring_weights(r, k) + (c0_ - b0_);
      const T* FASTMEF_RESTRICT exposure = ring(r, k + 1) + (c0_ - b0_);
      T* FASTMEF_RESTRICT out = static_cast<T*>(pass_.args.gradient) +
                                ((batch_ * count + k) * base.height + r) * base.width + c0_;
      const T offset = shifts_[k + 1] - shifts_[0];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < pixels_; ++x) {
        out[x] = weight[x] * (exposure[x] - fused[x] + offset) * by_fused[x];
      }
    }
  }

  // Adds the gradient of a level's row to the full-size rows it was made from.
  void write_fused(int64_t r, T* by_fused) {
    const Level& base = pass_.base();
    const int64_t planes = pass_.args.logits.data ? pass_.count() : 1;
    const int64_t x0 = base_begin(c0_, pass_.index, base.width);
    const int64_t x1 = base_begin(c1_, pass_.index, base.width);
    T* from = by_fused;
    T* other = wide_step_;
    T* spare = wide_sums_;
    for (int s = pass_.index - 1; s >= 0; --s) {
      const int64_t width = pass_.args.levels[s].width;
      const int64_t n = base_begin(c1_, pass_.index - s, width) - base_begin(c0_, pass_.index - s, width);
      double_row(from, n, other);
      from = other;
      other = spare;
      spare = from;
    }
    const int64_t y0 = base_begin(r, pass_.index, base.height);
    const int64_t y1 = base_begin(r + 1, pass_.index, base.height);
    for (int64_t row = y0; row < y1; ++row) {
      const T share = static_cast<T>(base_share(row, pass_.index, base.height));
      T* FASTMEF_RESTRICT out = static_cast<T*>(pass_.args.gradient) +
                                (batch_ * planes * base.height + row) * base.width + x0;
      const T* FASTMEF_RESTRICT in = from;
      if (pass_.accumulate) {
        for (int64_t x = 0; x < x1 - x0; ++x) out[x] += share * in[x];
      } else {
        for (int64_t x = 0; x < x1 - x0; ++x) out[x] = share * in[x];
      }
    }
  }

  const Pass<T>& pass_;
  int64_t batch_ = 0;
  int64_t r0_ = 0, r1_ = 0, c0_ = 0, c1_ = 0;  // pixels of the tile
  int64_t a0_ = 0, a1_ = 0, b0_ = 0, b1_ = 0;  // windows it needs
  int64_t windows_ = 0, inputs_ = 0, pixels_ = 0;
  int64_t slots_ = 0, stride_ = 0, wide_ = 0;
  int maps_ = 0;
  T *ring_, *ring_weights_, *down_, *moments_, *importance_, *total_, *value_, *derivatives_;
  T *spread_, *gathered_, *taps_y_, *taps_x_, *shifts_;
  T *wide_fused_, *wide_highest_, *wide_total_, *wide_exposures_, *wide_logits_, *wide_weights_;
  T *wide_sums_, *wide_step_;
  double* sums_;
  const T **rows_a_, **rows_b_, **pointers_;
  T** weights_;
};

template <class T>
void quality_task(void* context, int64_t index, void* scratch) {
  const Pass<T>& pass = *static_cast<const Pass<T>*>(context);
  pass.partials[index] = Tile<T>(pass, index, scratch).run();
}

template <class T>
void mask_task(void* context, int64_t index, void* scratch) {
  const Pass<T>& pass = *static_cast<const Pass<T>*>(context);
  pass.partials[index] = Tile<T>(pass, index, scratch).mask_sum();
}

template <class T>
double run_tiles(Pass<T>& pass, Task task) {
  parallel_for(pass.grid.count, pass.args.threads, Tile<T>::scratch_bytes(pass), task, &pass);
  double sum = 0.0;
  for (int64_t i = 0; i < pass.grid.count; ++i) sum += pass.partials[i];
  return sum;
}

// Turns dL/dF, left in the first plane of the logits' gradient by the levels, into dL/dlogits.
template <class T>
void logits_task(void* context, int64_t index, void* scratch) {
  const LossArgs& args = *static_cast<const LossArgs*>(context);
  const int64_t height = args.levels[0].height, width = args.levels[0].width;
  const int count = static_cast<int>(args.exposures_count);
  const int64_t wide = round_up(width);
  const int64_t b = index / height, y = index % height;
  Arena arena(scratch);
  T* copies = arena.take<T>(2 * count * wide);
  T* weights = arena.take<T>(count * wide);
  T* fused = arena.take<T>(wide);
  T* by_fused = arena.take<T>(wide);
  const T** exposures = arena.take<const T*>(count);
  const T** logits = arena.take<const T*>(count);
  T** weight_rows = arena.take<T*>(count);
  for (int k = 0; k < count; ++k) {
    exposures[k] = contiguous_row(args.exposures, b, k, y, 0, width, copies + 2 * k * wide);
    logits[k] = contiguous_row(args.logits, b, k, y, 0, width, copies + (2 * k + 1) * wide);
    weight_rows[k] = weights + k * wide;
  }
  softmax_row(logits, count, width, weight_rows, fused, by_fused);
  weighted_sum_row(weight_rows, exposures, count, width, fused);
  T* gradient = static_cast<T*>(args.gradient) + (b * count * height + y) * width;
  memcpy(by_fused, gradient, sizeof(T) * width);
  for (int k = 0; k < count; ++k) {
    T* FASTMEF_RESTRICT out = gradient + k * height * width;
    const T* FASTMEF_RESTRICT w = weight_rows[k];
    const T* FASTMEF_RESTRICT e = exposures[k];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < width; ++x) out[x] = w[x] * (e[x] - fused[x]) * by_fused[x];
  }
}

template <class T>
size_t logits_scratch(const LossArgs& args) {
  const size_t rows = static_cast<size_t>(3 * args.exposures_count + 2);
  return sizeof(T) * rows * round_up(args.levels[0].width) + 64 * (rows + 3) +
         3 * sizeof(T*) * args.exposures_count;
}

// A small array of sums that frees itself.
struct Sums {
  explicit Sums(int64_t count) : data(new double[count]) {}
  ~Sums() { delete[] data; }
  Sums(const Sums&) = delete;
  Sums& operator=(const Sums&) = delete;
  double* data;
};

template <class T>
double loss(const LossArgs& args) {
  int used = 0;
  for (int s = 0; s < args.level_count; ++s) used += args.levels[s].share != 0;
  const bool defer = args.logits.data && args.gradient && !(used == 1 && args.levels[0].share != 0);
  double total = 0.0;
  bool written = false;
  for (int s = 0; s < args.level_count; ++s) {
    const Level& level = args.levels[s];
    if (level.share == 0) continue;
    const Grid grid(args.batch, level);
    Sums partials(grid.count);
    Pass<T> pass{args, s, level, grid, false, written, defer, 0.0, partials.data};
    double norm = 1.0;
    if (!args.weight.data) {
      norm = static_cast<double>(args.batch) * (level.height - level.wy + 1) *
             (level.width - level.wx + 1);
    } else if (args.weight_is_mask) {
      norm = run_tiles(pass, mask_task<T>);
    }
    pass.with_gradient = args.gradient != nullptr;
    pass.scale = -level.share / norm;
    total += level.share * (1.0 - run_tiles(pass, quality_task<T>) / norm);
    written = true;
  }
  if (defer) {
    parallel_for(args.batch * args.levels[0].height, args.threads, logits_scratch<T>(args),
                 logits_task<T>, const_cast<LossArgs*>(&args));
  }
  return total;
}

}  // namespace

namespace FASTMEF_ISA {

double weighted_ssim_loss(const LossArgs& args, bool in_double) {
  return in_double ? loss<double>(args) : loss<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
