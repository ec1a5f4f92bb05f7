// The score of MEF-SSIM ma2015 at one scale, and its gradient by the fused image, in one sweep.
//
//   q = (2 cov + C) / (var_x + var_y + C),  cov = sum_k g_k (E[x_k y] - E[x_k] E[y])
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.
#include "mef_score.h"
#include "variant.h"

namespace fastmef {
namespace {

template <class T>
class Ma2015 : public ScoreSweep<T, Ma2015<T>> {
  using Base = ScoreSweep<T, Ma2015<T>>;

 public:
  template <class Pass>
  explicit Ma2015(const Pass& pass) : Base(pass), maps_(pass.maps) {}

  void carve_rows(Arena& arena) {
    covariance_ = arena.take<T>(this->stride_);
    target_mean_ = arena.take<T>(this->stride_);
    inverse_ = arena.take<T>(this->stride_);
    value_ = arena.take<T>(this->stride_);
  }

  void score(int64_t y) {
    add_covariances(y);
    const T c = static_cast<T>(this->pass_.score.c2);
    const T* FASTMEF_RESTRICT variance = this->map_row(maps_.variance, 1, 0, y);
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT power = this->power_;
    const T* FASTMEF_RESTRICT covariance = covariance_;
    T* FASTMEF_RESTRICT inverse = inverse_;
    T* FASTMEF_RESTRICT value = value_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      inverse[x] = 1 / (variance[x] + (power[x] - mean[x] * mean[x]) + c);
      value[x] = (2 * covariance[x] + c) * inverse[x];
    }
    this->count(y, value_, this->pass_.structure);
    if (this->sweep_.gradient) derive(y);
  }

 private:
  // cov, and sum_k g_k E[x_k].
  void add_covariances(int64_t y) {
    const int count = this->pass_.count();
    T* FASTMEF_RESTRICT covariance = covariance_;
    T* FASTMEF_RESTRICT target_mean = target_mean_;
    for (int64_t x = 0; x < this->windows_; ++x) covariance[x] = target_mean[x] = 0;
    for (int k = 0; k < count; ++k) {
      this->filter_product(y, k);
      const T* FASTMEF_RESTRICT exposure = this->map_row(maps_.means, count, k, y);
      const T* FASTMEF_RESTRICT gain = this->map_row(maps_.gains, count, k, y);
      const T* FASTMEF_RESTRICT mean = this->mean_;
      const T* FASTMEF_RESTRICT cross = this->cross_;
      const T shift = this->shifts_[k + 1];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        const T centred = exposure[x] - shift;
        covariance[x] += gain[x] * (cross[x] - centred * mean[x]);
        target_mean[x] += gain[x] * centred;
      }
    }
  }

  void derive(int64_t y) {
    const int count = this->pass_.count();
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT value = value_;
    const T* FASTMEF_RESTRICT target_mean = target_mean_;
    const T* FASTMEF_RESTRICT inverse = inverse_;
    T* FASTMEF_RESTRICT by_mean = this->derivative(kByMean);
    T* FASTMEF_RESTRICT by_power = this->derivative(kByPower);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      by_mean[x] = 2 * inverse[x] * (value[x] * mean[x] - target_mean[x]);
      by_power[x] = -value[x] * inverse[x];
    }
    for (int k = 0; k < count; ++k) {
      const T* FASTMEF_RESTRICT gain = this->map_row(maps_.gains, count, k, y);
      T* FASTMEF_RESTRICT by_cross = this->derivative(kByCross + k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) by_cross[x] = 2 * inverse[x] * gain[x];
    }
  }

  const Ma2015Maps& maps_;
  T *covariance_ = nullptr, *target_mean_ = nullptr, *inverse_ = nullptr, *value_ = nullptr;
};

}  // namespace

namespace FASTMEF_ISA {

void ma2015_quality(const MefShape& shape, const Ma2015Maps& maps, const MefScore& score,
                    bool in_double) {
  in_double ? score_tiles<double, Ma2015>(shape, maps, score)
            : score_tiles<float, Ma2015>(shape, maps, score);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
