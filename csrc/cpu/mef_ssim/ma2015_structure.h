// The desired patch of MEF-SSIM ma2015 in a row of windows. It depends on the exposures only.
//
// With flat windows of N pixels, e_k = |x_k - mu_k| + 0.001, an exponent p that measures the
// agreement of the exposures (exponent_of), w_k ~ (e_k / sqrt(N))^p and a_k = w_k / e_k. Every norm
// and product of patches is a sum of windowed covariances c_kl, so that no patch is formed:
// |sum_k a_k (x_k - mu_k)|^2 = N sum_kl a_k a_l c_kl.
#pragma once

#include "common/structure.h"
#include "cpu/mef_ssim/moments.h"
#include "cpu/mef_ssim/rows.h"
#include "cpu/runtime/arena.h"

namespace fastmef {
namespace {

constexpr double kNoise = 8;  // rounding of a variance in units of epsilon, as in the reference

// Base is a WindowSweep whose images from `first` on are the exposures. Their values times `unit`
// are grey levels in 0-255.
template <class T, class Base>
class Ma2015Structure : public Base {
 protected:
  template <class Pass>
  Ma2015Structure(const Pass& pass, const MefShape& shape, int first, double unit)
      : Base(pass), shape_(shape), first_(first), unit_(static_cast<T>(unit)) {
    const double epsilon = sizeof(T) == sizeof(float) ? 1.1920929e-7 : 2.220446049250313e-16;
    noise_ = static_cast<T>(kNoise * epsilon);
    area_ = static_cast<T>(shape.y.window) * static_cast<T>(shape.x.window);
  }

  // Allocates the rows.
  void carve_structure(Arena& arena) {
    const int wy = shape_.y.window;
    T** const stacks[] = {&flat_mean_, &flat_second_moment_, &means_, &smooth_,
                          &variance_,  &contrast_,           &gains_};
    for (T** stack : stacks) *stack = arena.take<T>(images() * this->stride_);
    flat_pairs_ = arena.take<T>(pairs() * this->stride_);
    smooth_pairs_ = arena.take<T>(pairs() * this->stride_);
    T** const rows[] = {&down_[0],   &down_[1], &flat_down_[0], &flat_down_[1],  &threes_, &total_,
                        &strongest_, &sum_,     &moments_,      &flat_variance_, &desired_};
    for (T** row : rows) *row = arena.take<T>(this->stride_);
    gauss_ = arena.take<T>(wy);
    above_ = arena.take<const T*>(wy);
    beside_ = arena.take<const T*>(wy);
  }

  // Fills the taps and clears the rows that are read beyond their end.
  void clear_structure() {
    for (int j = 0; j < shape_.y.window; ++j) gauss_[j] = static_cast<T>(shape_.taps_y[j]);
    // Window sums along a row read a little beyond the sums down the columns.
    T* const rows[] = {down_[0], down_[1], flat_down_[0], flat_down_[1], threes_};
    for (T* row : rows) memset(row, 0, sizeof(T) * this->stride_);
  }

  // Computes means (minus the constants of the planes), gains and variance of window row y.
  void compute_structure(int64_t y) {
    for (int k = 0; k < images(); ++k) measure(y, k);
    for (int k = 0; k < images(); ++k) {
      for (int l = 0; l < k; ++l) measure_pair(y, k, l);
    }
    weigh();
    combine_structures();
    rescale();
  }

  T* structure_mean(int k) const { return of(means_, k); }
  T* structure_gain(int k) const { return of(gains_, k); }
  T* structure_variance() const { return desired_; }
  int images() const { return static_cast<int>(shape_.count); }

  const MefShape& shape_;
  const int first_;

 private:
  int64_t pairs() const { return shape_.count * (shape_.count - 1) / 2; }
  T* of(T* rows, int64_t k) const { return rows + k * this->stride_; }
  T* of_pair(T* rows, int k, int l) const { return of(rows, k * (k - 1) / 2 + l); }

  // Computes flat window means along a row of sums down the columns.
  void flat_along(const T* in, T* out) {
    const int wx = shape_.x.window;
    if (wx == 11) {
      box_along<T, 11>(in, 1 / area_, 11, this->windows_, threes_, out);
    } else {
      box_along<T, 0>(in, 1 / area_, wx, this->windows_, threes_, out);
    }
  }

  // Computes the moments, |x_k - mu_k| and e_k of exposure k, and adds to the rows over all
  // exposures, which the first one initialises.
  void measure(int64_t y, int k) {
    const int wy = shape_.y.window;
    for (int j = 0; j < wy; ++j) above_[j] = this->ring(y + j, first_ + k);
    if (wy == 11) {
      both_moments_down<T, 11>(above_, gauss_, 11, this->inputs_, down_, flat_down_);
    } else {
      both_moments_down<T, 0>(above_, gauss_, wy, this->inputs_, down_, flat_down_);
    }
    T* FASTMEF_RESTRICT mean = of(means_, k);
    T* FASTMEF_RESTRICT smooth = of(smooth_, k);
    T* FASTMEF_RESTRICT flat_mean = of(flat_mean_, k);
    T* FASTMEF_RESTRICT flat_second_moment = of(flat_second_moment_, k);
    this->filter_along(down_[0], mean);
    this->filter_along(down_[1], smooth);
    flat_along(flat_down_[0], flat_mean);
    flat_along(flat_down_[1], flat_second_moment);
    T* FASTMEF_RESTRICT variance = of(variance_, k);
    T* FASTMEF_RESTRICT contrast = of(contrast_, k);
    T* FASTMEF_RESTRICT norms = sum_;
    T* FASTMEF_RESTRICT strongest = strongest_;
    T* FASTMEF_RESTRICT total = total_;
    const bool first = k == 0;
    const T noise = noise_, area = area_, least_contrast = T(0.001) / unit_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      smooth[x] -= mean[x] * mean[x];
      const T raw = flat_second_moment[x] - flat_mean[x] * flat_mean[x];
      variance[x] = beyond_rounding(raw, flat_second_moment[x], noise);
      const T norm = square_root(area * variance[x]);
      contrast[x] = norm + least_contrast;
      total[x] = first ? raw : total[x] + raw;
      norms[x] = first ? norm : norms[x] + norm;
      strongest[x] = first ? contrast[x] : larger(contrast[x], strongest[x]);
    }
  }

  // Computes the covariances of a pair, and adds to the variance of the sum of all exposures.
  void measure_pair(int64_t y, int k, int l) {
    const int wy = shape_.y.window;
    for (int j = 0; j < wy; ++j) {
      above_[j] = this->ring(y + j, first_ + k), beside_[j] = this->ring(y + j, first_ + l);
    }
    if (wy == 11) {
      products_down<T, 11>(above_, beside_, gauss_, 11, this->inputs_, down_[0], flat_down_[0]);
    } else {
      products_down<T, 0>(above_, beside_, gauss_, wy, this->inputs_, down_[0], flat_down_[0]);
    }
    T* FASTMEF_RESTRICT smooth = of_pair(smooth_pairs_, k, l);
    T* FASTMEF_RESTRICT flat = of_pair(flat_pairs_, k, l);
    this->filter_along(down_[0], smooth);
    flat_along(flat_down_[0], flat);
    const T* FASTMEF_RESTRICT flat_a = of(flat_mean_, k);
    const T* FASTMEF_RESTRICT flat_b = of(flat_mean_, l);
    const T* FASTMEF_RESTRICT mean_a = of(means_, k);
    const T* FASTMEF_RESTRICT mean_b = of(means_, l);
    T* FASTMEF_RESTRICT total = total_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      smooth[x] -= mean_a[x] * mean_b[x];
      flat[x] -= flat_a[x] * flat_b[x];
      total[x] += 2 * flat[x];
    }
  }

  // Computes w_k and their sum.
  void weigh() {
    T* FASTMEF_RESTRICT norms = sum_;
    T* FASTMEF_RESTRICT exponent = total_;
    const T area = area_, per_pixel = unit_ / square_root(area_), unit = unit_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T norm = square_root(area * larger(exponent[x], T(0)));
      exponent[x] = exponent_of(unit * norm, unit * norms[x]);
    }
    T* FASTMEF_RESTRICT sum = sum_;
    for (int k = 0; k < images(); ++k) {
      const T* FASTMEF_RESTRICT contrast = of(contrast_, k);
      T* FASTMEF_RESTRICT gain = of(gains_, k);
      const bool first = k == 0;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        gain[x] = power(contrast[x] * per_pixel, exponent[x]) + matlab_eps<T>();
        sum[x] = first ? gain[x] : sum[x] + gain[x];
      }
    }
  }

  // Computes a_k, 0 without structure, and the variances of sum_k a_k x_k in the flat and in the
  // Gaussian window.
  void combine_structures() {
    const T* FASTMEF_RESTRICT sum = sum_;
    T* FASTMEF_RESTRICT flat = flat_variance_;
    T* FASTMEF_RESTRICT smooth = desired_;
    T* FASTMEF_RESTRICT moments = moments_;
    for (int k = 0; k < images(); ++k) {
      const T* FASTMEF_RESTRICT contrast = of(contrast_, k);
      const T* FASTMEF_RESTRICT variance = of(variance_, k);
      const T* FASTMEF_RESTRICT flat_second_moment = of(flat_second_moment_, k);
      const T* FASTMEF_RESTRICT own = of(smooth_, k);
      T* FASTMEF_RESTRICT gain = of(gains_, k);
      const bool first = k == 0;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        const T textured = variance[x] > 0 ? T(1) : T(0);
        gain[x] = gain[x] / (sum[x] * contrast[x]) * textured;
        const T square = gain[x] * gain[x];
        flat[x] = (first ? T(0) : flat[x]) + square * variance[x];
        smooth[x] = (first ? T(0) : smooth[x]) + square * own[x];
        moments[x] = (first ? T(0) : moments[x]) + square * flat_second_moment[x];
      }
      for (int l = 0; l < k; ++l) {
        const T* FASTMEF_RESTRICT other = of(gains_, l);
        const T* FASTMEF_RESTRICT flat_pair = of_pair(flat_pairs_, k, l);
        const T* FASTMEF_RESTRICT smooth_pair = of_pair(smooth_pairs_, k, l);
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < this->windows_; ++x) {
          const T both = 2 * gain[x] * other[x];
          flat[x] += both * flat_pair[x];
          smooth[x] += both * smooth_pair[x];
        }
      }
    }
  }

  // Scales the patch to the strongest contrast. Exposures that cancel each other leave only
  // rounding, which is not amplified.
  void rescale() {
    const T* FASTMEF_RESTRICT flat = flat_variance_;
    const T* FASTMEF_RESTRICT moments = moments_;
    const T* FASTMEF_RESTRICT strongest = strongest_;
    T* FASTMEF_RESTRICT factor = sum_;
    T* FASTMEF_RESTRICT desired = desired_;
    const T noise = noise_, area = area_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T second_moment = beyond_rounding(flat[x], moments[x], noise);
      factor[x] = strongest[x] / square_root(second_moment > 0 ? area * second_moment : T(1));
      desired[x] = larger(desired[x] * factor[x] * factor[x], T(0));
    }
    for (int k = 0; k < images(); ++k) {
      T* FASTMEF_RESTRICT gain = of(gains_, k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) gain[x] *= factor[x];
    }
  }

  const T unit_;
  T noise_, area_;
  // One row for each exposure, or for each pair of exposures.
  T *flat_mean_ = nullptr, *flat_second_moment_ = nullptr, *means_ = nullptr, *smooth_ = nullptr;
  T *variance_ = nullptr, *contrast_ = nullptr, *gains_ = nullptr;
  T *flat_pairs_ = nullptr, *smooth_pairs_ = nullptr;
  // Single rows.
  T* down_[2] = {};
  T* flat_down_[2] = {};
  T *threes_ = nullptr, *total_ = nullptr, *strongest_ = nullptr, *sum_ = nullptr;
  T *moments_ = nullptr, *flat_variance_ = nullptr, *desired_ = nullptr, *gauss_ = nullptr;
  const T **above_ = nullptr, **beside_ = nullptr;
};

}  // namespace
}  // namespace fastmef
