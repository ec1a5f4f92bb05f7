// The sweep that scores a fused image y against the exposures x_k, with the gradient w.r.t. y:
//
//   dQ/dy = w * grad_mean + 2 y (w * grad_second_moment) + sum_k x_k (w * grad_cross_k)
//
// Op derives from ScoreSweep<T, Op> and has void score(int64_t y), which computes the values and,
// for a gradient, the derivatives of window row y. A score of colour images takes the moments of
// all channels jointly; it hides kChannels and windows().
#pragma once

#include "cpu/mef_ssim/moments.h"
#include "cpu/mef_ssim/rows.h"
#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

// The derivatives w.r.t. the moments of y; those w.r.t. E[x_k y] follow from kGradCross on.
enum { kGradMean, kGradSecondMoment, kGradCross };

struct ScorePass {
  const MefShape& shape;
  const MefScore& score;
  Sweep sweep;
  Stack fused, exposures, grad_structure, grad_luminance;
  double scale;       // the weight of a window in the mean
  double* structure;  // one sum for each tile
  double* luminance;  // one sum for each tile, only for mefnet

  int count() const { return static_cast<int>(shape.count); }
};

// The first kChannels images are the channels of the fused one; those of exposure k begin at image
// (k + 1) kChannels.
template <class T, class Op>
class ScoreSweep : public WindowSweep<T, Op> {
  using Base = WindowSweep<T, Op>;

 public:
  static constexpr int64_t kColumns = kMefColumns;
  static constexpr int kChannels = 1;

  void run(int64_t tile) {
    tile_ = tile;
    Base::run(tile);
  }

  void carve_more(Arena& arena) {
    means_ = arena.take<T>(kBlock * this->stride_);
    second_moments_ = arena.take<T>(kBlock * this->stride_);
    products_ = arena.take<T>(kBlock * this->stride_);
    crosses_ = arena.take<T>(pass_.count() * kBlock * this->stride_);
    filtered_ = arena.take<bool>(pass_.count());
    taps_ = arena.take<T>(pass_.shape.y.window);
    a_ = arena.take<const T*>(pass_.shape.y.window + kBlock - 1);
    b_ = arena.take<const T*>(pass_.shape.y.window + kBlock - 1);
    static_cast<Op*>(this)->carve_rows(arena);
  }

  void clear_more() {
    for (int j = 0; j < pass_.shape.y.window; ++j) taps_[j] = static_cast<T>(pass_.shape.taps_y[j]);
  }

  Pixels image(int p) const {
    const bool fused = p < Op::kChannels;
    const Stack& stack = fused ? pass_.fused : pass_.exposures;
    const int layer = fused ? p : p - Op::kChannels;
    return {&stack, this->batch_ * stack.plane + layer * stack.layer};
  }

  // The gradient of the luminance factor is stored as that of the first exposure, which has none.
  Pixels target(int p) const {
    static const Stack absent{};
    const int64_t begin = this->batch_ * pass_.fused.plane;
    if (p < Op::kChannels) return {&pass_.grad_structure, begin + p * pass_.fused.layer};
    return {p == Op::kChannels ? &pass_.grad_luminance : &absent, begin};
  }

  void filter(int64_t y, int rows) {
    block_ = y, rows_ = rows;
    for (int k = 0; k < pass_.count(); ++k) filtered_[k] = false;
    this->moments(y, rows, 0, means_, second_moments_);
  }

  void windows(int64_t y) {
    mean_ = means_ + (y - block_) * this->stride_;
    second_moment_ = second_moments_ + (y - block_) * this->stride_;
    static_cast<Op*>(this)->score(y);
  }

  void combine(int64_t g, int p, T* FASTMEF_RESTRICT out) {
    constexpr int kChannels = Op::kChannels;
    const T scale = static_cast<T>(pass_.scale / kChannels);
    const int64_t n = this->g1_ - this->g0_;
    if (p == kChannels) {
      const T* FASTMEF_RESTRICT mean = this->gathered(kGradCross + pass_.count());
      for (int64_t i = 0; i < n; ++i) out[i] = scale * mean[i];
      return;
    }
    const T* FASTMEF_RESTRICT mean = this->gathered(kGradMean);
    const T* FASTMEF_RESTRICT second_moment = this->gathered(kGradSecondMoment);
    const T* FASTMEF_RESTRICT fused = this->ring(g, p) + (this->g0_ - this->b0_);
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) out[i] = scale * (mean[i] + 2 * fused[i] * second_moment[i]);
    for (int k = 0; k < pass_.count(); ++k) {
      const T* FASTMEF_RESTRICT cross = this->gathered(kGradCross + k);
      const T* FASTMEF_RESTRICT exposure =
          this->ring(g, (k + 1) * kChannels + p) + (this->g0_ - this->b0_);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) out[i] += scale * exposure[i] * cross[i];
    }
  }

 protected:
  explicit ScoreSweep(const ScorePass& pass) : Base(pass.sweep), pass_(pass) {}

  // Returns E[x_k y] of the windows of row y, both minus their constants. The rows of a block are
  // filtered together, when the first of them is wanted.
  const T* cross_mean(int64_t y, int k) {
    T* crosses = crosses_ + k * kBlock * this->stride_;
    if (!filtered_[k]) {
      multiply_down(k);
      for (int r = 0; r < rows_; ++r) {
        this->filter_along(products_ + r * this->stride_, crosses + r * this->stride_);
      }
      filtered_[k] = true;
    }
    return crosses + (y - block_) * this->stride_;
  }

  // Returns row y of a map (B, layers, H', W'), from the first window that is computed.
  const T* map_row(const void* map, int64_t layers, int64_t k, int64_t y) const {
    const Axis &rows = pass_.shape.y, &columns = pass_.shape.x;
    const int64_t row = (this->batch_ * layers + k) * rows.windows() + y;
    return static_cast<const T*>(map) + row * columns.windows() + this->b0_;
  }

  // Adds the values of the windows that the tile owns to its sum.
  void count(int64_t y, const T* values, double* sums) const {
    if (!this->owns(y)) return;
    const int64_t n = least(this->c1_, pass_.shape.x.windows()) - this->c0_;
    if (n > 0) sums[tile_] += row_sum(values + (this->c0_ - this->b0_), n);
  }

  const ScorePass& pass_;
  // E[y] and E[y^2] in the current row of windows.
  const T *mean_ = nullptr, *second_moment_ = nullptr;

 private:
  // Filters the products of exposure k and y down the columns, for the rows of the block.
  void multiply_down(int k) {
    const int wy = pass_.shape.y.window;
    for (int j = 0; j < wy + rows_ - 1; ++j) {
      a_[j] = this->ring(block_ + j, 0), b_[j] = this->ring(block_ + j, k + 1);
    }
    if (wy == 11) return unrolled_products<11>();
    if (wy == 5) return unrolled_products<5>();
    for (int r = 0; r < rows_; ++r) {
      T* out = products_ + r * this->stride_;
      product_means_down<T>(a_ + r, b_ + r, taps_, wy, this->inputs_, out);
    }
  }

  template <int N>
  void unrolled_products() {
    const int64_t n = this->inputs_, stride = this->stride_;
    if (rows_ == kBlock) {
      return product_means_down<T, N, kBlock>(a_, b_, taps_, n, stride, products_);
    }
    for (int r = 0; r < rows_; ++r) {
      product_means_down<T, N, 1>(a_ + r, b_ + r, taps_, n, stride, products_ + r * stride);
    }
  }

  int64_t tile_ = 0, block_ = 0;
  int rows_ = 0;
  T *means_ = nullptr, *second_moments_ = nullptr, *products_ = nullptr, *crosses_ = nullptr;
  T* taps_ = nullptr;
  bool* filtered_ = nullptr;
  const T **a_ = nullptr, **b_ = nullptr;
};

// Runs Op over all tiles and computes the means.
template <class T, template <class> class Op, class Maps>
void score_tiles(const MefShape& shape, const Maps& maps, const MefScore& score) {
  const int64_t height = shape.y.size, width = shape.x.size;
  const Tiles tiles(shape.batch, height, width, Op<T>::kColumns);
  const int count = static_cast<int>(shape.count);
  const int channels = Op<T>::kChannels;
  const int derivatives = kGradCross + count + (score.grad_luminance ? 1 : 0);
  const Array<double> structure(tiles.count), luminance(tiles.count);
  struct Pass : ScorePass {
    const Maps& maps;
  };
  const Pass pass{
      {shape,
       score,
       {shape.y, shape.x, shape.taps_y, shape.taps_x, tiles, channels * (count + 1), derivatives,
        score.grad_structure != nullptr, false},
       planes<T>(score.fused, channels, height, width),
       planes<T>(maps.exposures, channels * count, height, width),
       planes<T>(score.grad_structure, channels, height, width),
       planes<T>(score.grad_luminance, 1, height, width),
       1.0 / (static_cast<double>(shape.y.windows()) * static_cast<double>(shape.x.windows())),
       structure.data,
       luminance.data},
      maps};
  sweep_tiles<Op<T>>(pass, shape.threads);
  const int64_t each = tiles.count / shape.batch;
  sum_tiles<T>(structure.data, shape.batch, each, pass.scale, score.structure);
  if (score.luminance) {
    sum_tiles<T>(luminance.data, shape.batch, each, pass.scale, score.luminance);
  }
}

}  // namespace
}  // namespace fastmef
