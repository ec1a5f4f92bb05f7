// The sweep of one level: sum_k gamma_k SSIM(F, I_k) of every window, and the gradients, from the
// derivatives w.r.t. the moments of F:
//
//   dL/dF = w * grad_mean + 2 F (w * grad_second_moment) + sum_k I_k (w * grad_cross_k)
//   dL/dlogits_k = W_k (I_k - F) dL/dF
#pragma once

#include "common/similarity.h"
#include "cpu/loss/rows.h"
#include "cpu/window/importance.h"
#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

// Image 0 is F, image k + 1 the exposure k.
template <class T>
class LossSweep : public WindowSweep<T, LossSweep<T>> {
  using Base = WindowSweep<T, LossSweep<T>>;
  friend Base;

 public:
  explicit LossSweep(const LossPass<T>& pass) : Base(pass.sweep), pass_(pass), rows_(pass) {}

  void run(int64_t tile) {
    this->locate_tile(tile);
    rows_.start(this->batch_);
    if (pass_.level.loss_weight == 0) return write_coarse_gradient();
    Base::run(tile);
    pass_.partials[tile] = this->sum();
  }

 private:
  // The derivatives w.r.t. E[F] and E[F^2]; those w.r.t. E[F I_k] follow from kCross on.
  enum { kMean, kSecondMoment, kCross };

  void carve_more(Arena& arena) {
    const int count = pass_.count();
    rows_.carve(arena);
    moments_ = arena.take<T>((2 + 3 * count) * kBlock * this->stride_);
    importance_ = arena.take<T>(count * this->stride_);
    total_ = arena.take<T>(this->stride_);
    value_ = arena.take<T>(this->stride_);
    if (pass_.writes_logits()) {
      weights_ = arena.take<T>(this->ring_slots() * count * this->stride_);
    }
    if (pass_.sweep.gradient && pass_.index == 0) {
      coarse_row_ = arena.take<T>(this->stride_);
    }
  }

  // Rows of pixels.

  // Returns the weights of exposure k in row y, in the layout of ring().
  T* weights(int64_t y, int k) const {
    return this->pixel_row(weights_, y % this->ring_slots() * pass_.count() + k);
  }

  const T* image_row(int p, int64_t y, int64_t begin, int64_t end, T*) {
    if (pass_.index > 0) {
      if (p == 0) rows_.read_level(y, begin, end);
      return rows_.level_row(p);
    }
    if (p > 0) return rows_.exposure(p - 1);
    for (int k = 0; k < pass_.count(); ++k) {
      rows_.put_weights(k, weights_ ? weights(y, k) + begin - this->b0_ : nullptr);
    }
    return rows_.full_row(y, begin, end - begin);
  }

  void sample(int64_t y, int64_t x, T* values) {
    const Level& base = pass_.base();
    rows_.sample(base_begin(y, pass_.index, base.height - 1),
                 base_begin(x, pass_.index, base.width - 1), values);
  }

  // Windows.

  // Returns a moment of the current row of windows: E[F], E[F^2], then E[I], E[I^2], E[F I] of each
  // exposure.
  T* moment(int index) const { return moments_ + (index * kBlock + row_) * this->stride_; }

  void filter(int64_t y, int rows) {
    first_ = y;
    row_ = 0;
    this->moments(y, rows, 0, moment(0), moment(1));
    for (int k = 0; k < pass_.count(); ++k) {
      this->cross_moments(y, rows, 0, k + 1, moment(2 + 3 * k), moment(3 + 3 * k),
                          moment(4 + 3 * k));
    }
  }

  void windows(int64_t y) {
    row_ = y - first_;
    weigh_exposures(y);
    const int64_t n = round_up(this->windows_);
    const bool luminance = pass_.args.luminance, gradient = this->sweep_.gradient;
    memset(value_, 0, sizeof(T) * n);
    for (int m = kMean; m < kCross && gradient; ++m) memset(this->derivative(m), 0, sizeof(T) * n);
    for (int k = 0; k < pass_.count(); ++k) {
      if (luminance) {
        gradient ? compare<true, true>(k) : compare<true, false>(k);
      } else {
        gradient ? compare<false, true>(k) : compare<false, false>(k);
      }
    }
    if (!this->owns(y)) return;
    this->add_to_sum(value_);
    if (pass_.args.map.data && this->owned() > 0) write_map(y);
  }

  // Computes total_ = weight / (sum_k A_k + eps) and importance_[k] = A_k.
  void weigh_exposures(int64_t y) {
    const LossArgs& args = pass_.args;
    const Level& level = pass_.level;
    const int64_t n = round_up(this->windows_);
    const int64_t row = y + level.wy / 2;
    const int64_t above = most(row - 1, 0), below = least(row + 1, level.height - 1);
    T* FASTMEF_RESTRICT total = total_;
    for (int k = 0; k < pass_.count(); ++k) {
      T* FASTMEF_RESTRICT a = importance_ + k * this->stride_;
      const ImportanceInputs<T> in{moment(2 + 3 * k),
                                   moment(3 + 3 * k),
                                   this->ring(above, k + 1) + level.wx / 2,
                                   this->ring(row, k + 1) + level.wx / 2,
                                   this->ring(below, k + 1) + level.wx / 2,
                                   static_cast<T>(args.floor),
                                   this->shifts_[k + 1]};
      importance<false>(args.attributes, n, in, FactorRows<T>{}, a);
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
      const T* weight = rows_.window_weights(y, this->b0_, this->b1_);
      for (int64_t x = 0; x < this->windows_; ++x) total[x] *= weight[x];
    }
  }

  // Adds gamma_k SSIM(F, I_k) of the current row of windows, and its derivatives.
  template <bool Luminance, bool Gradient>
  void compare(int k) {
    const LossArgs& args = pass_.args;
    const int64_t n = round_up(this->windows_);
    const T* FASTMEF_RESTRICT mean_f = moment(0);
    const T* FASTMEF_RESTRICT second_moment_f = moment(1);
    const T* FASTMEF_RESTRICT mean_i = moment(2 + 3 * k);
    const T* FASTMEF_RESTRICT second_moment_i = moment(3 + 3 * k);
    const T* FASTMEF_RESTRICT cross = moment(4 + 3 * k);
    const T* FASTMEF_RESTRICT total = total_;
    const T* FASTMEF_RESTRICT importance = importance_ + k * this->stride_;
    T* FASTMEF_RESTRICT value = value_;
    T* FASTMEF_RESTRICT grad_mean = Gradient ? this->derivative(kMean) : nullptr;
    T* FASTMEF_RESTRICT grad_second_moment = Gradient ? this->derivative(kSecondMoment) : nullptr;
    T* FASTMEF_RESTRICT grad_cross = Gradient ? this->derivative(kCross + k) : nullptr;
    const T c1 = static_cast<T>(args.c1), c2 = static_cast<T>(args.c2);
    const T shift_f = this->shifts_[0], shift_i = this->shifts_[k + 1];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T gamma = importance[x] * total[x];
      const Similarity<T> s =
          similarity<T, Luminance>(mean_f[x], mean_i[x], second_moment_f[x], second_moment_i[x],
                                   cross[x], shift_f, shift_i, c1, c2);
      value[x] += gamma * s.value;
      if (Gradient) {
        grad_mean[x] += gamma * s.grad_mean;
        grad_second_moment[x] += gamma * s.grad_second_moment;
        grad_cross[x] = gamma * s.grad_cross;
      }
    }
  }

  // Writes 1 - quality of the windows that the tile owns.
  void write_map(int64_t y) {
    const Stack& map = pass_.args.map;
    const int64_t n = this->owned();
    const T* in = value_ + this->first_owned();
    T* out = rows_.spare();
    for (int64_t x = 0; x < n; ++x) out[x] = 1 - in[x];
    write(map, offset_of(map, this->batch_, 0, y, this->c0_), 1, n, out);
  }

  // Gradients.

  bool wants_gradient(int p) const { return p == 0; }

  void combine(int64_t g, int, T* FASTMEF_RESTRICT out) {
    const int64_t n = this->g1_ - this->g0_, offset = this->g0_ - this->b0_;
    const T scale = static_cast<T>(pass_.scale);
    const T* FASTMEF_RESTRICT mean = this->gathered(kMean);
    const T* FASTMEF_RESTRICT second_moment = this->gathered(kSecondMoment);
    const T* FASTMEF_RESTRICT fused = this->ring(g, 0) + offset;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] = scale * (mean[x] + 2 * fused[x] * second_moment[x]);
    for (int k = 0; k < pass_.count(); ++k) {
      const T* FASTMEF_RESTRICT cross = this->gathered(kCross + k);
      const T* FASTMEF_RESTRICT exposure = this->ring(g, k + 1) + offset;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) out[x] += scale * exposure[x] * cross[x];
    }
  }

  void store(int, int64_t y, T* grad_fused) {
    if (pass_.index > 0) return add_to_coarse_gradient(y, grad_fused);
    if (pass_.coarse.data) add_coarse_gradient(y, grad_fused);
    if (pass_.args.logits.data) return write_logits(y, grad_fused);
    const Stack& grad = pass_.args.grad;
    write(grad, offset_of(grad, this->batch_, 0, y, this->c0_), 1, pixels(), grad_fused);
  }

  // Writes the gradient of the coarser levels, if the finest level has the weight 0.
  void write_coarse_gradient() {
    if (pass_.writes_logits()) this->choose_shifts();
    for (int64_t y = this->r0_; y < this->r1_; ++y) {
      if (pass_.writes_logits()) this->load(y);
      memset(value_, 0, sizeof(T) * this->stride_);
      store(0, y, value_);
    }
  }

  int64_t pixels() const { return this->c1_ - this->c0_; }

  // Adds the gradient of a row of a coarser level to the rows of level 1 that it averages.
  void add_to_coarse_gradient(int64_t y, T* grad_fused) {
    const Level& target = pass_.args.levels[1];
    const int steps = pass_.index - 1;
    const int64_t x0 = base_begin(this->c0_, steps, target.width);
    const int64_t n = base_begin(this->c1_, steps, target.width) - x0;
    const int64_t y0 = base_begin(y, steps, target.height);
    const int64_t y1 = base_begin(y + 1, steps, target.height);
    const T* FASTMEF_RESTRICT in = rows_.upsample(grad_fused, this->c0_, this->c1_);
    for (int64_t row = y0; row < y1; ++row) {
      const T row_weight = static_cast<T>(base_weight(row, steps, target.height));
      T* FASTMEF_RESTRICT sum = pass_.coarse.row(this->batch_, row, x0);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) sum[x] += row_weight * in[x];
    }
  }

  // Adds the gradient of the coarser levels to that of row y. Tiles begin in even columns.
  void add_coarse_gradient(int64_t y, T* FASTMEF_RESTRICT grad_fused) {
    const int64_t n = pixels();
    halve_row_backward(pass_.coarse.row(this->batch_, y / 2, this->c0_ / 2), n, coarse_row_);
    const T row_weight = static_cast<T>(base_weight(y, 1, pass_.level.height));
    const T* FASTMEF_RESTRICT coarse = coarse_row_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) grad_fused[x] += row_weight * coarse[x];
  }

  // Writes a row of dL/dlogits.
  void write_logits(int64_t y, const T* FASTMEF_RESTRICT grad_fused) {
    const Stack& grad = pass_.args.grad;
    const int64_t first = this->c0_ - this->b0_, n = pixels();
    const T* FASTMEF_RESTRICT fused = this->ring(y, 0) + first;
    for (int k = 0; k < pass_.count(); ++k) {
      const T* FASTMEF_RESTRICT weight = weights(y, k) + first;
      const T* FASTMEF_RESTRICT exposure = this->ring(y, k + 1) + first;
      const int64_t at = offset_of(grad, this->batch_, k, y, this->c0_);
      // The row is written directly if the array has the type T.
      T* const row = holds(grad, T()) ? reinterpret_cast<T*>(address(grad, at)) : rows_.spare();
      T* FASTMEF_RESTRICT out = row;
      const T offset = this->shifts_[k + 1] - this->shifts_[0];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) {
        out[x] = weight[x] * (exposure[x] - fused[x] + offset) * grad_fused[x];
      }
      if (!holds(grad, T())) write(grad, at, 1, n, row);
    }
  }

  const LossPass<T>& pass_;
  LevelRows<T> rows_;
  int64_t first_ = 0, row_ = 0;  // first window row with moments; the current row, counted from it
  T *moments_ = nullptr, *importance_ = nullptr, *total_ = nullptr, *value_ = nullptr;
  T *weights_ = nullptr, *coarse_row_ = nullptr;
};

// Computes the sum of the mask over the centres of the windows that a tile owns.
template <class T>
class MaskSum : public WindowTile {
 public:
  explicit MaskSum(const LossPass<T>& pass) : WindowTile(pass.sweep), pass_(pass), rows_(pass) {}

  void carve(Arena& arena) { rows_.carve(arena); }

  void run(int64_t tile) {
    locate_tile(tile);
    rows_.start(batch_);
    const Level& level = pass_.level;
    const int64_t begin = c0_ + level.wx / 2, n = owned();
    double sum = 0.0;
    for (int64_t y = r0_; n > 0 && y < least(r1_, sweep_.y.windows()); ++y) {
      const T* row = rows_.mask_row(y + level.wy / 2, begin, begin + n);
      double row_sum = 0.0;
      for (int64_t x = 0; x < n; ++x) row_sum += row[x];
      sum += row_sum;
    }
    pass_.partials[tile] = sum;
  }

 private:
  const LossPass<T>& pass_;
  LevelRows<T> rows_;
};

}  // namespace
}  // namespace fastmef
