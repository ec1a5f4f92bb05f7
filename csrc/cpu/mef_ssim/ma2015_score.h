// The score of MEF-SSIM ma2015 in a row of windows, and its derivatives w.r.t. the windows'
// moments.
//
//   q = (2 cov + C) / (var_x + var_y + C),  cov = sum_k g_k (E[x_k y] - E[x_k] E[y])
#pragma once

#include "cpu/mef_ssim/score.h"

namespace fastmef {
namespace {

// Base is a ScoreSweep. Op provides rows of the maps of the exposures: mean_row(k, y), which is
// mean_shift(k) above the mean of the values in the ring, gain_row(k, y) and variance_row(y).
template <class T, class Op, class Base>
class Ma2015Score : public Base {
 protected:
  using Base::Base;

  // Allocates the rows.
  void carve_score(Arena& arena) {
    covariance_ = arena.take<T>(this->stride_);
    target_mean_ = arena.take<T>(this->stride_);
    inverse_ = arena.take<T>(this->stride_);
    value_ = arena.take<T>(this->stride_);
  }

  // Computes q of window row y, and its derivatives if a gradient is wanted.
  void compute_score(int64_t y) {
    add_covariances(y);
    const T c = static_cast<T>(this->pass_.score.c2);
    const T* FASTMEF_RESTRICT variance = op().variance_row(y);
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT second_moment = this->second_moment_;
    const T* FASTMEF_RESTRICT covariance = covariance_;
    T* FASTMEF_RESTRICT inverse = inverse_;
    T* FASTMEF_RESTRICT value = value_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      inverse[x] = 1 / (variance[x] + (second_moment[x] - mean[x] * mean[x]) + c);
      value[x] = (2 * covariance[x] + c) * inverse[x];
    }
    this->count(y, value_, this->pass_.structure);
    if (this->sweep_.gradient) derive(y);
  }

 private:
  const Op& op() const { return *static_cast<const Op*>(this); }

  // Computes cov and sum_k g_k E[x_k].
  void add_covariances(int64_t y) {
    const int count = this->pass_.count();
    T* FASTMEF_RESTRICT covariance = covariance_;
    T* FASTMEF_RESTRICT target_mean = target_mean_;
    for (int64_t x = 0; x < this->windows_; ++x) covariance[x] = target_mean[x] = 0;
    for (int k = 0; k < count; ++k) {
      const T* FASTMEF_RESTRICT exposure = op().mean_row(k, y);
      const T* FASTMEF_RESTRICT gain = op().gain_row(k, y);
      const T* FASTMEF_RESTRICT mean = this->mean_;
      const T* FASTMEF_RESTRICT cross = this->cross_mean(y, k);
      const T shift = op().mean_shift(k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        const T centred = exposure[x] - shift;
        covariance[x] += gain[x] * (cross[x] - centred * mean[x]);
        target_mean[x] += gain[x] * centred;
      }
    }
  }

  // Computes the derivatives of q w.r.t. the moments of y and the cross moments.
  void derive(int64_t y) {
    const int count = this->pass_.count();
    const T* FASTMEF_RESTRICT mean = this->mean_;
    const T* FASTMEF_RESTRICT value = value_;
    const T* FASTMEF_RESTRICT target_mean = target_mean_;
    const T* FASTMEF_RESTRICT inverse = inverse_;
    T* FASTMEF_RESTRICT grad_mean = this->derivative(kGradMean);
    T* FASTMEF_RESTRICT grad_second_moment = this->derivative(kGradSecondMoment);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      grad_mean[x] = 2 * inverse[x] * (value[x] * mean[x] - target_mean[x]);
      grad_second_moment[x] = -value[x] * inverse[x];
    }
    for (int k = 0; k < count; ++k) {
      const T* FASTMEF_RESTRICT gain = op().gain_row(k, y);
      T* FASTMEF_RESTRICT grad_cross = this->derivative(kGradCross + k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) grad_cross[x] = 2 * inverse[x] * gain[x];
    }
  }

  T *covariance_ = nullptr, *target_mean_ = nullptr, *inverse_ = nullptr, *value_ = nullptr;
};

}  // namespace
}  // namespace fastmef
