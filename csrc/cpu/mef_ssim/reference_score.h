// What the scores against the exposure k* of largest variance have in common: the covariance with
// this exposure in a row of windows, and the derivatives w.r.t. the cross moments E[x_k y].
#pragma once

#include "cpu/mef_ssim/score.h"

namespace fastmef {
namespace {

// Op derives from ReferenceScore<T, Op, Base>, Base from a ScoreSweep. Op has
// const T* cross_row(int64_t y, int k), which returns E[x_k y] in window row y, both minus their
// constants.
template <class T, class Op, class Base>
class ReferenceScore : public Base {
 protected:
  template <class Pass>
  explicit ReferenceScore(const Pass& pass) : Base(pass), maps_(pass.maps) {}

  // Allocates the rows.
  void carve_reference(Arena& arena) {
    T** const rows[] = {&best_, &best_mean_, &covariance_, &inverse_};
    for (T** row : rows) *row = arena.take<T>(this->stride_);
    used_ = arena.take<bool>(this->pass_.count());
  }

  // Computes the covariance with the exposure of largest variance, the index of this exposure, and
  // its mean minus its constant.
  void select(int64_t y, const T* mean) {
    read_reference(y);
    T* FASTMEF_RESTRICT covariance = covariance_;
    T* FASTMEF_RESTRICT best_mean = best_mean_;
    const T* FASTMEF_RESTRICT best = best_;
    const T* FASTMEF_RESTRICT exposure = this->map_row(maps_.mean, 1, 0, y);
    for (int64_t x = 0; x < this->windows_; ++x) covariance[x] = best_mean[x] = 0;
    for (int k = 0; k < this->pass_.count(); ++k) {
      if (!used_[k]) continue;
      const T* FASTMEF_RESTRICT cross = static_cast<Op*>(this)->cross_row(y, k);
      const T shift = this->shifts_[(k + 1) * Op::kChannels], index = static_cast<T>(k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        const T centred = exposure[x] - shift;
        const bool is_best = best[x] == index;
        covariance[x] = is_best ? cross[x] - centred * mean[x] : covariance[x];
        best_mean[x] = is_best ? centred : best_mean[x];
      }
    }
  }

  // Computes the derivatives w.r.t. E[x_k y] from that w.r.t. the covariance.
  void derive_cross(const T* grad_covariance) {
    const T* FASTMEF_RESTRICT best = best_;
    for (int k = 0; k < this->pass_.count(); ++k) {
      T* FASTMEF_RESTRICT grad_cross = this->derivative(kGradCross + k);
      const T index = static_cast<T>(k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        grad_cross[x] = best[x] == index ? grad_covariance[x] : T(0);
      }
    }
  }

  const ReferenceMaps& maps_;
  T *best_ = nullptr, *best_mean_ = nullptr, *covariance_ = nullptr, *inverse_ = nullptr;

 private:
  // Reads the indices of window row y, and finds the exposures that they name.
  void read_reference(int64_t y) {
    const Axis &rows = this->pass_.shape.y, &columns = this->pass_.shape.x;
    const int64_t* FASTMEF_RESTRICT reference =
        maps_.reference + (this->batch_ * rows.windows() + y) * columns.windows() + this->b0_;
    const int count = this->pass_.count();
    for (int k = 0; k < count; ++k) used_[k] = false;
    for (int64_t x = 0; x < this->windows_; ++x) {
      best_[x] = static_cast<T>(static_cast<int32_t>(reference[x]));
      if (reference[x] >= 0 && reference[x] < count) used_[reference[x]] = true;
    }
  }

  bool* used_ = nullptr;
};

}  // namespace
}  // namespace fastmef
