// MEF-SSIM mefnet: the maps of the exposures, and both factors with their gradients.
//
//   cs = (2 cov + C2) / (var_x + var_y + C2)   with the exposure of largest variance in each window
//   l  = (2 m t + C1) / (m^2 + t^2 + C1)       with m = E[y] and the desired mean t
//
// This file is compiled once for every instruction set; FASTMEF_ISA names the set.
#include "cpu/mef_ssim/reference_score.h"
#include "cpu/mef_ssim/reference_sources.h"

namespace fastmef {
namespace {

template <class T>
class MefnetSources : public ReferenceSources<T, MefnetSources<T>> {
  using Base = ReferenceSources<T, MefnetSources<T>>;

 public:
  static constexpr int kChannels = 1;

  explicit MefnetSources(const SourcesPass& pass) : Base(pass) {}

  void carve_rows(Arena& arena) {
    this->mean_ = means_ = arena.take<T>(this->stride_);
    this->second_moment_ = second_moments_ = arena.take<T>(this->stride_);
  }
  void measure(int64_t y, int k) { this->moments(y, 1, k, means_, second_moments_); }

 private:
  T *means_ = nullptr, *second_moments_ = nullptr;
};

template <class T>
void sources(const MefShape& shape, const ReferenceMaps& maps) {
  const int64_t height = shape.y.size, width = shape.x.size, count = shape.batch * shape.count;
  const Array<double> down(height), across(width), image_means(count);
  coverage(shape.y, shape.taps_y, down.data);
  coverage(shape.x, shape.taps_x, across.data);
  plane_means<T>(maps.exposures, count, height, width, down.data, across.data, shape.threads,
                 image_means.data);
  sweep_sources<T, MefnetSources>(shape, maps, image_means.data);
}

template <class T>
class Mefnet : public ReferenceScore<T, Mefnet<T>, ScoreSweep<T, Mefnet<T>>> {
  using Base = ReferenceScore<T, Mefnet<T>, ScoreSweep<T, Mefnet<T>>>;

 public:
  template <class Pass>
  explicit Mefnet(const Pass& pass) : Base(pass) {}

  void carve_rows(Arena& arena) {
    this->carve_reference(arena);
    structure_ = arena.take<T>(this->stride_);
    luminance_ = arena.take<T>(this->stride_);
    unused_ = arena.take<T>(this->stride_);
  }

  const T* cross_row(int64_t y, int k) { return this->cross_mean(y, k); }

  void score(int64_t y) {
    this->select(y, this->mean_);
    const bool gradient = this->sweep_.gradient;
    const int last = kGradCross + this->pass_.count();
    const T c1 = static_cast<T>(this->pass_.score.c1), c2 = static_cast<T>(this->pass_.score.c2);
    const T shift = this->shifts_[0];
    const T* FASTMEF_RESTRICT target = this->map_row(this->maps_.luminance, 1, 0, y);
    const T* FASTMEF_RESTRICT variance = this->map_row(this->maps_.variance, 1, 0, y);
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT second_moment = this->second_moment_;
    const T* FASTMEF_RESTRICT covariance = this->covariance_;
    T* FASTMEF_RESTRICT inverse = this->inverse_;
    T* FASTMEF_RESTRICT structure = structure_;
    T* FASTMEF_RESTRICT luminance = luminance_;
    T* FASTMEF_RESTRICT grad_luminance = gradient ? this->derivative(last) : unused_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      inverse[x] = 1 / (variance[x] + (second_moment[x] - mean[x] * mean[x]) + c2);
      structure[x] = (2 * covariance[x] + c2) * inverse[x];
      const T m = mean[x] + shift;
      const T luminance_inverse = 1 / (m * m + target[x] * target[x] + c1);
      luminance[x] = (2 * m * target[x] + c1) * luminance_inverse;
      grad_luminance[x] = 2 * luminance_inverse * (target[x] - m * luminance[x]);
    }
    this->count(y, structure_, this->pass_.structure);
    this->count(y, luminance_, this->pass_.luminance);
    if (gradient) derive();
  }

 private:
  // Computes the derivatives of cs w.r.t. the moments of y and the cross moments.
  void derive() {
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT best_mean = this->best_mean_;
    const T* FASTMEF_RESTRICT structure = structure_;
    T* FASTMEF_RESTRICT inverse = this->inverse_;
    T* FASTMEF_RESTRICT grad_mean = this->derivative(kGradMean);
    T* FASTMEF_RESTRICT grad_second_moment = this->derivative(kGradSecondMoment);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      grad_mean[x] = 2 * inverse[x] * (structure[x] * mean[x] - best_mean[x]);
      grad_second_moment[x] = -structure[x] * inverse[x];
      inverse[x] *= 2;
    }
    this->derive_cross(inverse);
  }

  T *structure_ = nullptr, *luminance_ = nullptr, *unused_ = nullptr;
};

}  // namespace

namespace FASTMEF_ISA {

void mefnet_sources(const MefShape& shape, const ReferenceMaps& maps, bool in_double) {
  in_double ? sources<double>(shape, maps) : sources<float>(shape, maps);
}

void mefnet_factors(const MefShape& shape, const ReferenceMaps& maps, const MefScore& score,
                    bool in_double) {
  in_double ? score_tiles<double, Mefnet>(shape, maps, score)
            : score_tiles<float, Mefnet>(shape, maps, score);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
