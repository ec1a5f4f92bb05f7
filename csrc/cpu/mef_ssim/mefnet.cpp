// MEF-SSIM mefnet: the maps of the exposures, and both factors with their gradients.
//
//   cs = (2 cov + C2) / (var_x + var_y + C2)   with the exposure of largest variance in each window
//   l  = (2 m t + C1) / (m^2 + t^2 + C1)       with m = E[y] and the desired mean t
//
// This file is compiled once for every instruction set; FASTMEF_ISA names the set.
#include "common/attributes.h"
#include "cpu/mef_ssim/score.h"

namespace fastmef {
namespace {

struct SourcesPass {
  const MefShape& shape;
  const MefnetMaps& maps;
  Sweep sweep;
  Stack exposures;
  const double* image_means;  // (B, K)
};

template <class T>
class MefnetSources : public WindowSweep<T, MefnetSources<T>> {
  using Base = WindowSweep<T, MefnetSources<T>>;

 public:
  explicit MefnetSources(const SourcesPass& pass) : Base(pass.sweep), pass_(pass) {}

  void carve_more(Arena& arena) {
    T** const rows[] = {&mean_,          &second_moment_, &best_, &best_mean_,
                        &best_variance_, &total_,         &sum_};
    for (T** row : rows) {
      *row = arena.take<T>(this->stride_);
    }
  }

  Pixels image(int p) const {
    return {&pass_.exposures, this->batch_ * pass_.exposures.plane + p * pass_.exposures.layer};
  }

  void windows(int64_t y) {
    for (int k = 0; k < pass_.shape.count; ++k) {
      this->moments(y, 1, k, mean_, second_moment_);
      select(k);
      weigh(k);
    }
    const int64_t at = (this->batch_ * pass_.shape.y.size + y) * pass_.shape.x.size + this->b0_;
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

 private:
  // Selects the first exposure with the largest variance; NaN counts as the largest.
  void select(int k) {
    const T* FASTMEF_RESTRICT mean = mean_;
    const T* FASTMEF_RESTRICT second_moment = second_moment_;
    T* FASTMEF_RESTRICT best = best_;
    T* FASTMEF_RESTRICT best_mean = best_mean_;
    T* FASTMEF_RESTRICT best_variance = best_variance_;
    const T shift = this->shifts_[k], index = static_cast<T>(k);
    const bool first = k == 0;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T variance = second_moment[x] - mean[x] * mean[x];
      const bool better = first | (variance > best_variance[x]) | (variance != variance);
      best[x] = better ? index : best[x];
      best_mean[x] = better ? mean[x] + shift : best_mean[x];
      best_variance[x] = better ? variance : best_variance[x];
    }
  }

  // Adds to sum_k L_k mu_k and to sum_k L_k; L_k is the product of two well-exposednesses.
  void weigh(int k) {
    const T* FASTMEF_RESTRICT mean = mean_;
    T* FASTMEF_RESTRICT total = total_;
    T* FASTMEF_RESTRICT sum = sum_;
    const T shift = this->shifts_[k];
    const double image_mean = pass_.image_means[this->batch_ * pass_.shape.count + k];
    const T of_image = well_exposedness(static_cast<T>(image_mean));
    const bool first = k == 0;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T level = mean[x] + shift;
      const T weight = well_exposedness(level) * of_image;
      total[x] = (first ? T(0) : total[x]) + weight;
      sum[x] = (first ? T(0) : sum[x]) + weight * level;
    }
  }

  const SourcesPass& pass_;
  T *mean_ = nullptr, *second_moment_ = nullptr, *best_ = nullptr, *best_mean_ = nullptr;
  T *best_variance_ = nullptr, *total_ = nullptr, *sum_ = nullptr;
};

template <class T>
void sources(const MefShape& shape, const MefnetMaps& maps) {
  const int64_t height = shape.y.size, width = shape.x.size;
  const int count = static_cast<int>(shape.count);
  const Array<double> down(height), across(width), image_means(shape.batch * count);
  coverage(shape.y, shape.taps_y, down.data);
  coverage(shape.x, shape.taps_x, across.data);
  plane_means<T>(maps.exposures, shape.batch * count, height, width, down.data, across.data,
                 shape.threads, image_means.data);
  const SourcesPass pass{
      shape,
      maps,
      {shape.y, shape.x, shape.taps_y, shape.taps_x, Tiles(shape.batch, height, width, kMefColumns),
       count, 0, false, false},
      planes<T>(maps.exposures, count, height, width),
      image_means.data,
  };
  sweep_tiles<MefnetSources<T>>(pass, shape.threads);
}

template <class T>
class Mefnet : public ScoreSweep<T, Mefnet<T>> {
  using Base = ScoreSweep<T, Mefnet<T>>;

 public:
  template <class Pass>
  explicit Mefnet(const Pass& pass) : Base(pass), maps_(pass.maps) {}

  void carve_rows(Arena& arena) {
    T** const rows[] = {&best_, &best_mean_, &covariance_, &inverse_, &structure_, &luminance_};
    for (T** row : rows) {
      *row = arena.take<T>(this->stride_);
    }
  }

  void score(int64_t y) {
    select(y);
    const bool gradient = this->sweep_.gradient;
    const int last = kGradCross + this->pass_.count();
    const T c1 = static_cast<T>(this->pass_.score.c1), c2 = static_cast<T>(this->pass_.score.c2);
    const T shift = this->shifts_[0];
    const T* FASTMEF_RESTRICT target = this->map_row(maps_.luminance, 1, 0, y);
    const T* FASTMEF_RESTRICT variance = this->map_row(maps_.variance, 1, 0, y);
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT second_moment = this->second_moment_;
    const T* FASTMEF_RESTRICT covariance = covariance_;
    T* FASTMEF_RESTRICT inverse = inverse_;
    T* FASTMEF_RESTRICT structure = structure_;
    T* FASTMEF_RESTRICT luminance = luminance_;
    T* FASTMEF_RESTRICT grad_luminance = gradient ? this->derivative(last) : this->cross_;
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
  // Computes the covariance with the exposure of largest variance, the index of this exposure, and
  // its mean minus the constant of its plane.
  void select(int64_t y) {
    const int count = this->pass_.count();
    const Axis &rows = this->pass_.shape.y, &columns = this->pass_.shape.x;
    const int64_t* FASTMEF_RESTRICT reference =
        maps_.reference + (this->batch_ * rows.size + y) * columns.size + this->b0_;
    T* FASTMEF_RESTRICT best = best_;
    T* FASTMEF_RESTRICT covariance = covariance_;
    T* FASTMEF_RESTRICT best_mean = best_mean_;
    for (int64_t x = 0; x < this->windows_; ++x) {
      best[x] = static_cast<T>(static_cast<int32_t>(reference[x]));
      covariance[x] = best_mean[x] = 0;
    }
    const T* FASTMEF_RESTRICT exposure = this->map_row(maps_.mean, 1, 0, y);
    for (int k = 0; k < count; ++k) {
      this->filter_product(y, k);
      const T* FASTMEF_RESTRICT mean = this->mean_;
      const T* FASTMEF_RESTRICT cross = this->cross_;
      const T shift = this->shifts_[k + 1], index = static_cast<T>(k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        const T centred = exposure[x] - shift;
        const bool is_best = best[x] == index;
        covariance[x] = is_best ? cross[x] - centred * mean[x] : covariance[x];
        best_mean[x] = is_best ? centred : best_mean[x];
      }
    }
  }

  // Computes the derivatives of cs w.r.t. the moments of y and the cross moments.
  void derive() {
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT best = best_;
    const T* FASTMEF_RESTRICT best_mean = best_mean_;
    const T* FASTMEF_RESTRICT structure = structure_;
    const T* FASTMEF_RESTRICT inverse = inverse_;
    T* FASTMEF_RESTRICT grad_mean = this->derivative(kGradMean);
    T* FASTMEF_RESTRICT grad_second_moment = this->derivative(kGradSecondMoment);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      grad_mean[x] = 2 * inverse[x] * (structure[x] * mean[x] - best_mean[x]);
      grad_second_moment[x] = -structure[x] * inverse[x];
    }
    for (int k = 0; k < this->pass_.count(); ++k) {
      T* FASTMEF_RESTRICT grad_cross = this->derivative(kGradCross + k);
      const T index = static_cast<T>(k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        grad_cross[x] = best[x] == index ? 2 * inverse[x] : T(0);
      }
    }
  }

  const MefnetMaps& maps_;
  T *best_ = nullptr, *best_mean_ = nullptr, *covariance_ = nullptr, *inverse_ = nullptr;
  T *structure_ = nullptr, *luminance_ = nullptr;
};

}  // namespace

namespace FASTMEF_ISA {

void mefnet_sources(const MefShape& shape, const MefnetMaps& maps, bool in_double) {
  in_double ? sources<double>(shape, maps) : sources<float>(shape, maps);
}

void mefnet_factors(const MefShape& shape, const MefnetMaps& maps, const MefScore& score,
                    bool in_double) {
  in_double ? score_tiles<double, Mefnet>(shape, maps, score)
            : score_tiles<float, Mefnet>(shape, maps, score);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
