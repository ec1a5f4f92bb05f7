// The maps of the exposures for the variants that compare with the exposure of largest variance:
// its index, mean and variance in each window, and the desired mean sum_k L_k mu_k / sum_k L_k.
#pragma once

#include "common/attributes.h"
#include "cpu/mef_ssim/rows.h"
#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

struct SourcesPass {
  const MefShape& shape;
  const ReferenceMaps& maps;
  Sweep sweep;
  Stack exposures;
  const double* image_means;  // (B, K)
};

// Op has void measure(int64_t y, int k), which points mean_ and second_moment_ to the moments of
// exposure k in window row y, both minus its constant, and the number of channels kChannels.
template <class T, class Op>
class ReferenceSources : public WindowSweep<T, Op> {
  using Base = WindowSweep<T, Op>;

 public:
  void carve_more(Arena& arena) {
    T** const rows[] = {&best_, &best_mean_, &best_variance_, &total_, &sum_};
    for (T** row : rows) *row = arena.take<T>(this->stride_);
    static_cast<Op*>(this)->carve_rows(arena);
  }

  Pixels image(int p) const {
    return {&pass_.exposures, this->batch_ * pass_.exposures.plane + p * pass_.exposures.layer};
  }

  void windows(int64_t y) {
    for (int k = 0; k < pass_.shape.count; ++k) {
      static_cast<Op*>(this)->measure(y, k);
      select(k);
      weigh(k);
    }
    const Axis &rows = pass_.shape.y, &columns = pass_.shape.x;
    const int64_t at = (this->batch_ * rows.windows() + y) * columns.windows() + this->b0_;
    int64_t* FASTMEF_RESTRICT reference = pass_.maps.reference + at;
    T* FASTMEF_RESTRICT mean = static_cast<T*>(pass_.maps.mean) + at;
    T* FASTMEF_RESTRICT variance = static_cast<T*>(pass_.maps.variance) + at;
    T* FASTMEF_RESTRICT luminance = static_cast<T*>(pass_.maps.luminance) + at;
    for (int64_t x = 0; x < this->windows_; ++x) {
      reference[x] = static_cast<int32_t>(best_[x]);
      mean[x] = best_mean_[x];
      variance[x] = best_variance_[x];
      luminance[x] = sum_[x] / total_[x];
    }
  }

 protected:
  explicit ReferenceSources(const SourcesPass& pass) : Base(pass.sweep), pass_(pass) {}

  const T *mean_ = nullptr, *second_moment_ = nullptr;

 private:
  // Returns the constant of exposure k.
  T shift(int k) const { return this->shifts_[k * Op::kChannels]; }

  // Selects the first exposure with the largest variance; NaN counts as the largest.
  void select(int k) {
    const T* FASTMEF_RESTRICT mean = mean_;
    const T* FASTMEF_RESTRICT second_moment = second_moment_;
    T* FASTMEF_RESTRICT best = best_;
    T* FASTMEF_RESTRICT best_mean = best_mean_;
    T* FASTMEF_RESTRICT best_variance = best_variance_;
    const T constant = shift(k), index = static_cast<T>(k);
    const bool first = k == 0;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T variance = second_moment[x] - mean[x] * mean[x];
      const bool better = first | (variance > best_variance[x]) | (variance != variance);
      best[x] = better ? index : best[x];
      best_mean[x] = better ? mean[x] + constant : best_mean[x];
      best_variance[x] = better ? variance : best_variance[x];
    }
  }

  // Adds to sum_k L_k mu_k and to sum_k L_k; L_k is the product of two well-exposednesses.
  void weigh(int k) {
    const T* FASTMEF_RESTRICT mean = mean_;
    T* FASTMEF_RESTRICT total = total_;
    T* FASTMEF_RESTRICT sum = sum_;
    const T constant = shift(k);
    const double image_mean = pass_.image_means[this->batch_ * pass_.shape.count + k];
    const T of_image = well_exposedness(static_cast<T>(image_mean));
    const bool first = k == 0;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T level = mean[x] + constant;
      const T weight = well_exposedness(level) * of_image;
      total[x] = (first ? T(0) : total[x]) + weight;
      sum[x] = (first ? T(0) : sum[x]) + weight * level;
    }
  }

  const SourcesPass& pass_;
  T *best_ = nullptr, *best_mean_ = nullptr, *best_variance_ = nullptr;
  T *total_ = nullptr, *sum_ = nullptr;
};

// Computes the maps. `image_means` (B, K) are the means of whole exposures.
template <class T, template <class> class Op>
void sweep_sources(const MefShape& shape, const ReferenceMaps& maps, const double* image_means) {
  const int64_t height = shape.y.size, width = shape.x.size;
  const int images = static_cast<int>(shape.count) * Op<T>::kChannels;
  const SourcesPass pass{
      shape,
      maps,
      {shape.y, shape.x, shape.taps_y, shape.taps_x, Tiles(shape.batch, height, width, kMefColumns),
       images, 0, false, false},
      planes<T>(maps.exposures, images, height, width),
      image_means,
  };
  sweep_tiles<Op<T>>(pass, shape.threads);
}

}  // namespace
}  // namespace fastmef
