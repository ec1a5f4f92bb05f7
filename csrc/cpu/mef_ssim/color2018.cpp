// MEF-SSIM color2018: the maps of the exposures, and the score with its gradient.
//
//   Q = mean l cs, in flat windows of 8x8 pixels and three channels, with
//   cs = (2 cov + C2) / (var_x + var_y + C2)   with the exposure of largest variance in each window
//   l  = (2 m t + C1) / (m^2 + t^2 + C1)       with m = E[y] and the desired mean t
//
// This file is compiled once for every instruction set; FASTMEF_ISA names the set.
#include "cpu/mef_ssim/channel_means.h"
#include "cpu/mef_ssim/reference_score.h"
#include "cpu/mef_ssim/reference_sources.h"

namespace fastmef {
namespace {

template <class T>
class ColorSources : public ChannelMeans<T, ColorSources<T>, ReferenceSources<T, ColorSources<T>>> {
  using Base = ChannelMeans<T, ColorSources<T>, ReferenceSources<T, ColorSources<T>>>;

 public:
  explicit ColorSources(const SourcesPass& pass) : Base(pass) {}

  void carve_rows(Arena& arena) { this->carve_means(arena, 2 * exposures()); }
  void clear_more() { this->clear_means(); }

  void multiply(int64_t row) {
    for (int k = 0; k < exposures(); ++k) {
      this->add_channels(row, k, 2 * k);
      this->multiply_channels(row, k, k, 2 * k + 1);
    }
  }
  void measure(int64_t y, int k) {
    this->mean_ = this->mean_row(y, 2 * k);
    this->second_moment_ = this->mean_row(y, 2 * k + 1);
  }

 private:
  int exposures() const { return this->sweep_.images / this->kChannels; }
};

template <class T>
void sources(const MefShape& shape, const ReferenceMaps& maps) {
  const int64_t count = shape.batch * shape.count;
  const Array<double> plane_mean(3 * count), image_means(count);
  plane_means<T>(maps.exposures, 3 * count, shape.y.size, shape.x.size, nullptr, nullptr,
                 shape.threads, plane_mean.data);
  for (int64_t i = 0; i < count; ++i) {
    const double* mean = plane_mean.data + 3 * i;
    image_means.data[i] = (mean[0] + mean[1] + mean[2]) / 3;
  }
  sweep_sources<T, ColorSources>(shape, maps, image_means.data);
}

template <class T>
class Color2018
    : public ReferenceScore<T, Color2018<T>,
                            ChannelMeans<T, Color2018<T>, ScoreSweep<T, Color2018<T>>>> {
  using Base =
      ReferenceScore<T, Color2018<T>, ChannelMeans<T, Color2018<T>, ScoreSweep<T, Color2018<T>>>>;

  // The maps: E[y], E[y^2], and E[x_k y] of exposure k from kCross on.
  enum { kMean, kSecondMoment, kCross };

 public:
  // Three rows of each image are read, so narrow tiles stay in the caches.
  static constexpr int64_t kColumns = 256;

  template <class Pass>
  explicit Color2018(const Pass& pass) : Base(pass) {}

  void carve_more(Arena& arena) {
    this->carve_reference(arena);
    this->carve_means(arena, kCross + this->pass_.count());
    T** const rows[] = {&value_, &unused_[0], &unused_[1]};
    for (T** row : rows) *row = arena.take<T>(this->stride_);
  }
  void clear_more() { this->clear_means(); }

  void multiply(int64_t row) {
    this->add_channels(row, 0, kMean);
    this->multiply_channels(row, 0, 0, kSecondMoment);
    for (int k = 0; k < this->pass_.count(); ++k) {
      this->multiply_channels(row, 0, k + 1, kCross + k);
    }
  }
  const T* cross_row(int64_t y, int k) { return this->mean_row(y, kCross + k); }

  void windows(int64_t y) {
    const T* FASTMEF_RESTRICT mean = this->mean_row(y, kMean);
    const T* FASTMEF_RESTRICT second_moment = this->mean_row(y, kSecondMoment);
    this->select(y, mean);
    const bool gradient = this->sweep_.gradient;
    const T c1 = static_cast<T>(this->pass_.score.c1), c2 = static_cast<T>(this->pass_.score.c2);
    const T shift = this->shifts_[0];
    const T* FASTMEF_RESTRICT target = this->map_row(this->maps_.luminance, 1, 0, y);
    const T* FASTMEF_RESTRICT variance = this->map_row(this->maps_.variance, 1, 0, y);
    const T* FASTMEF_RESTRICT best_mean = this->best_mean_;
    const T* FASTMEF_RESTRICT covariance = this->covariance_;
    T* FASTMEF_RESTRICT value = value_;
    T* FASTMEF_RESTRICT grad_covariance = this->inverse_;
    T* FASTMEF_RESTRICT grad_mean = gradient ? this->derivative(kGradMean) : unused_[0];
    T* FASTMEF_RESTRICT grad_second_moment =
        gradient ? this->derivative(kGradSecondMoment) : unused_[1];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T inverse = 1 / (variance[x] + (second_moment[x] - mean[x] * mean[x]) + c2);
      const T structure = (2 * covariance[x] + c2) * inverse;
      const T m = mean[x] + shift;
      const T luminance_inverse = 1 / (m * m + target[x] * target[x] + c1);
      const T luminance = (2 * m * target[x] + c1) * luminance_inverse;
      const T grad_luminance = 2 * luminance_inverse * (target[x] - m * luminance);
      const T scaled = luminance * inverse;
      grad_covariance[x] = 2 * scaled;
      grad_mean[x] = structure * grad_luminance + 2 * scaled * (structure * mean[x] - best_mean[x]);
      grad_second_moment[x] = -structure * scaled;
      value[x] = luminance * structure;
    }
    this->count(y, value_, this->pass_.structure);
    if (gradient) this->derive_cross(grad_covariance);
  }

 private:
  T* value_ = nullptr;
  T* unused_[2] = {};
};

}  // namespace

namespace FASTMEF_ISA {

void color2018_sources(const MefShape& shape, const ReferenceMaps& maps, bool in_double) {
  in_double ? sources<double>(shape, maps) : sources<float>(shape, maps);
}

void color2018_score(const MefShape& shape, const ReferenceMaps& maps, const MefScore& score,
                     bool in_double) {
  in_double ? score_tiles<double, Color2018>(shape, maps, score)
            : score_tiles<float, Color2018>(shape, maps, score);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
