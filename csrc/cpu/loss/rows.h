// Rows of the images for a tile: converted to T, F computed from the logits if there are any, and
// coarser levels computed from full-size rows.
#pragma once

#include "cpu/fusion/softmax_rows.h"
#include "cpu/loss/pass.h"
#include "cpu/loss/pyramid.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// Reads a single value.
template <class T>
T value_at(const Stack& stack, int64_t b, int64_t k, int64_t y, int64_t x) {
  T value = 0;
  read(stack, offset_of(stack, b, k, y, x), 1, 1, &value);
  return value;
}

template <class T>
class LevelRows {
 public:
  explicit LevelRows(const LossPass<T>& pass) : pass_(pass) {}

  // Allocates the rows.
  void carve(Arena& arena) {
    const int count = pass_.count();
    const int64_t wide =
        least(pass_.base().width, base_begin(pass_.widest(), pass_.index, int64_t(1) << 40));
    wide_ = round_up(wide) + kLane;
    fused_ = arena.take<T>(wide_);
    highest_ = arena.take<T>(wide_);
    total_ = arena.take<T>(wide_);
    exposures_ = arena.take<T>(count * wide_);
    logits_ = arena.take<T>(count * wide_);
    own_weights_ = arena.take<T>(count * wide_);
    sums_ = arena.take<T>((count + 1) * wide_);
    step_ = arena.take<T>(wide_);
    exposure_rows_ = arena.take<const T*>(count);
    logit_rows_ = arena.take<const T*>(count);
    weight_rows_ = arena.take<T*>(count);
  }

  void start(int64_t batch) { batch_ = batch; }

  // Returns the row that full_row() last read from exposure k.
  const T* exposure(int k) const { return exposure_rows_[k]; }

  // Sets the row that full_row() writes the weights of exposure k to; `nullptr` selects a scratch
  // row.
  void put_weights(int k, T* row) { weight_rows_[k] = row ? row : own_weights_ + k * wide_; }

  // Reads columns [x, x + n) of full-size row y and returns F; see exposure(), put_weights().
  const T* full_row(int64_t y, int64_t x, int64_t n) {
    const LossArgs& args = pass_.args;
    const int count = pass_.count();
    for (int k = 0; k < count; ++k) {
      exposure_rows_[k] = dense_row(args.exposures, offset_of(args.exposures, batch_, k, y, x), n,
                                    exposures_ + k * wide_);
    }
    if (!args.logits.data)
      return dense_row(args.fused, offset_of(args.fused, batch_, 0, y, x), n, fused_);
    for (int k = 0; k < count; ++k) {
      logit_rows_[k] =
          dense_row(args.logits, offset_of(args.logits, batch_, k, y, x), n, logits_ + k * wide_);
    }
    softmax_row(logit_rows_, count, n, weight_rows_, highest_, total_);
    weighted_sum_row(weight_rows_, exposure_rows_, count, n, fused_);
    return fused_;
  }

  // Reads columns [begin, end) of row y of a coarser level, for level_row() to finish.
  void read_level(int64_t y, int64_t begin, int64_t end) {
    const Level& base = pass_.base();
    const int count = pass_.count();
    const int64_t x0 = base_begin(begin, pass_.index, base.width);
    const int64_t x1 = base_begin(end, pass_.index, base.width);
    const int64_t y0 = base_begin(y, pass_.index, base.height);
    const int64_t y1 = base_begin(y + 1, pass_.index, base.height);
    for (int k = 0; k < count; ++k) put_weights(k, nullptr);
    for (int64_t row = y0; row < y1; ++row) {
      const T* fused = full_row(row, x0, x1 - x0);
      const T row_weight = static_cast<T>(base_weight(row, pass_.index, base.height));
      for (int plane = 0; plane <= count; ++plane) {
        const T* FASTMEF_RESTRICT in = plane ? exposure_rows_[plane - 1] : fused;
        T* FASTMEF_RESTRICT sum = sums_ + plane * wide_;
        if (row == y0) {
          for (int64_t x = 0; x < x1 - x0; ++x) sum[x] = row_weight * in[x];
        } else {
          for (int64_t x = 0; x < x1 - x0; ++x) sum[x] += row_weight * in[x];
        }
      }
    }
    columns_ = x1 - x0;
  }

  // Returns a row of the level: plane 0 is F, plane k + 1 exposure k.
  const T* level_row(int plane) { return halve(sums_ + plane * wide_, columns_); }

  // Returns columns [begin, end) of row y of the level's mask.
  const T* mask_row(int64_t y, int64_t begin, int64_t end) {
    const Stack& weight = pass_.args.weight;
    const Level& base = pass_.base();
    const int64_t x0 = base_begin(begin, pass_.index, base.width);
    const int64_t x1 = base_begin(end, pass_.index, base.width);
    if (pass_.index == 0)
      return dense_row(weight, offset_of(weight, batch_, 0, y, x0), x1 - x0, fused_);
    const int64_t y0 = base_begin(y, pass_.index, base.height);
    const int64_t y1 = base_begin(y + 1, pass_.index, base.height);
    for (int64_t x = 0; x < x1 - x0; ++x) sums_[x] = 0;
    for (int64_t row = y0; row < y1; ++row) {
      const T* in = dense_row(weight, offset_of(weight, batch_, 0, row, x0), x1 - x0, fused_);
      const T row_weight = static_cast<T>(base_weight(row, pass_.index, base.height));
      for (int64_t x = 0; x < x1 - x0; ++x) sums_[x] += row_weight * in[x];
    }
    return halve(sums_, x1 - x0);
  }

  // Returns the importance of the windows [begin, end) of row y.
  const T* window_weights(int64_t y, int64_t begin, int64_t end) {
    const LossArgs& args = pass_.args;
    if (args.weight_is_mask) {
      const int64_t half = pass_.level.wx / 2;
      return mask_row(y + pass_.level.wy / 2, begin + half, end + half);
    }
    return dense_row(args.weight, offset_of(args.weight, batch_, 0, y, begin), end - begin, fused_);
  }

  // Backpropagates a row of the level, columns [c0, c1), through 2x2 averaging to level 1.
  const T* upsample(T* row, int64_t c0, int64_t c1) {
    T* other = step_;
    T* spare = sums_;
    for (int s = pass_.index - 1; s >= 1; --s) {
      const int64_t width = pass_.args.levels[s].width;
      const int steps = pass_.index - s;
      halve_row_backward(row, base_begin(c1, steps, width) - base_begin(c0, steps, width), other);
      row = other;
      other = spare;
      spare = row;
    }
    return row;
  }

  // A full-size row that callers may write to between two reads.
  T* spare() { return fused_; }

  // Computes F and reads the exposures at a pixel.
  void sample(int64_t y, int64_t x, T* values) {
    const LossArgs& args = pass_.args;
    T fused = 0, highest = 0, total = 0;
    for (int k = 0; k < pass_.count(); ++k) {
      const T exposure = value_at<T>(args.exposures, batch_, k, y, x);
      values[k + 1] = exposure;
      if (!args.logits.data) continue;
      const T logit = value_at<T>(args.logits, batch_, k, y, x);
      // This is the softmax in one pass: a larger logit rescales the sums so far.
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
    values[0] = args.logits.data ? fused / total : value_at<T>(args.fused, batch_, 0, y, x);
  }

 private:
  // Halves n full-size columns until they are those of the level.
  const T* halve(T* from, int64_t n) {
    T* to = step_;
    for (int s = 0; s < pass_.index; ++s) {
      n = halve_row(from, n, to);
      T* swap = from;
      from = to;
      to = swap;
    }
    return from;
  }

  const LossPass<T>& pass_;
  int64_t batch_ = 0;
  int64_t wide_ = 0, columns_ = 0;
  T *fused_ = nullptr, *highest_ = nullptr, *total_ = nullptr, *exposures_ = nullptr;
  T *logits_ = nullptr, *own_weights_ = nullptr, *sums_ = nullptr, *step_ = nullptr;
  const T **exposure_rows_ = nullptr, **logit_rows_ = nullptr;
  T** weight_rows_ = nullptr;
};

}  // namespace
}  // namespace fastmef
