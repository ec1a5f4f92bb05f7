// The maps of MEF-SSIM ma2015 that the exposures alone decide, at one scale, in one sweep.
//
// With flat windows of N pixels: e_k = |x_k - mu_k| + 0.001, p from how well the exposures agree,
// w_k ~ (e_k / sqrt(N))^p, a_k = w_k / e_k. Every norm and product of patches is a sum of windowed
// covariances c_kl, so no patch is formed: |sum_k a_k (x_k - mu_k)|^2 = N sum_kl a_k a_l c_kl.
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.
#include "../common/structure.h"
#include "mef_rows.h"
#include "variant.h"
#include "window_sweep.h"

namespace fastmef {
namespace {

constexpr double kNoise = 8;  // roundings, as in the reference

struct LevelPass {
  const MefShape& shape;
  const Ma2015Maps& maps;
  Sweep sweep;
  Stack images;
  const double* image_means;  // (B, K)
};

template <class T>
class Ma2015Level : public WindowSweep<T, Ma2015Level<T>> {
  using Base = WindowSweep<T, Ma2015Level<T>>;

 public:
  explicit Ma2015Level(const LevelPass& pass) : Base(pass.sweep), pass_(pass) {
    const double epsilon = sizeof(T) == sizeof(float) ? 1.1920929e-7 : 2.220446049250313e-16;
    noise_ = static_cast<T>(kNoise * epsilon);
    area_ = static_cast<T>(pass.shape.y.window) * static_cast<T>(pass.shape.x.window);
  }

  void carve_more(Arena& arena) {
    const int wy = pass_.shape.y.window, count = images();
    T** const stacks[] = {&flat_mean_, &flat_power_, &mean_, &power_,
                          &variance_,  &contrast_,   &gain_};
    for (T** stack : stacks) {
      *stack = arena.take<T>(count * this->stride_);
    }
    T** const rows[] = {&down_,           &down_power_, &product_,  &flat_product_, &total_,
                        &strongest_,      &sum_,        &exponent_, &moments_,      &flat_variance_,
                        &smooth_variance_};
    for (T** row : rows) {
      *row = arena.take<T>(this->stride_);
    }
    totals_ = arena.take<T>(wy * this->stride_);
    taps_ = arena.take<T>(wy);
    flat_y_ = arena.take<T>(wy);
    flat_x_ = arena.take<T>(pass_.shape.x.window);
    a_ = arena.take<const T*>(wy);
    b_ = arena.take<const T*>(wy);
  }

  void clear_more() {
    const int wy = pass_.shape.y.window, wx = pass_.shape.x.window;
    for (int j = 0; j < wy; ++j) {
      taps_[j] = static_cast<T>(pass_.shape.taps_y[j]);
      flat_y_[j] = static_cast<T>(1.0 / wy);
    }
    for (int j = 0; j < wx; ++j) flat_x_[j] = static_cast<T>(1.0 / wx);
    next_total_ = this->a0_;
  }

  void run(int64_t tile) {
    Base::run(tile);
    write_exposures();
  }

  Pixels image(int p) const {
    return {&pass_.images, this->batch_ * pass_.images.plane + p * pass_.images.layer};
  }
  Pixels target(int p) const { return image(p); }
  void no_windows(int64_t) {}
  void combine(int64_t, int, T*) {}

  void windows(int64_t y) {
    measure(y);
    weigh();
    combine_structures(y);
    write_maps(y);
  }

 private:
  int images() const { return static_cast<int>(pass_.shape.count); }
  T* of(T* rows, int k) const { return rows + k * this->stride_; }

  void flat_moments(const T* const* rows, T* mean, T* power) {
    const int wy = pass_.shape.y.window;
    if (wy == 11) {
      moments_down<T, 11>(rows, flat_y_, 11, this->inputs_, down_, down_power_);
    } else {
      moments_down<T, 0>(rows, flat_y_, wy, this->inputs_, down_, down_power_);
    }
    flat_along(down_, mean);
    flat_along(down_power_, power);
  }

  void flat_along(const T* in, T* out) {
    const int wx = pass_.shape.x.window;
    if (wx == 11) {
      mean_along<T, 11>(in, flat_x_, 11, this->windows_, out);
    } else {
      mean_along<T, 0>(in, flat_x_, wx, this->windows_, out);
    }
  }

  void product(const T* taps) {
    const int wy = pass_.shape.y.window;
    if (wy == 11) {
      product_down<T, 11>(a_, b_, taps, 11, this->inputs_, down_);
    } else {
      product_down<T, 0>(a_, b_, taps, wy, this->inputs_, down_);
    }
  }

  // Moments of every exposure and of their sum; |x_k - mu_k| and e_k.
  void measure(int64_t y) {
    const int wy = pass_.shape.y.window;
    for (; next_total_ < y + wy; ++next_total_) add_up(next_total_);
    T* FASTMEF_RESTRICT norms = sum_;
    T* FASTMEF_RESTRICT strongest = strongest_;
    for (int k = 0; k < images(); ++k) {
      T* FASTMEF_RESTRICT flat_mean = of(flat_mean_, k);
      T* FASTMEF_RESTRICT flat_power = of(flat_power_, k);
      T* FASTMEF_RESTRICT variance = of(variance_, k);
      T* FASTMEF_RESTRICT contrast = of(contrast_, k);
      this->moments(y, k, of(mean_, k), of(power_, k));
      for (int j = 0; j < wy; ++j) a_[j] = this->ring(y + j, k);
      flat_moments(a_, flat_mean, flat_power);
      const bool first = k == 0;
      const T noise = noise_, area = area_;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        const T raw = flat_power[x] - flat_mean[x] * flat_mean[x];
        variance[x] = beyond_rounding(raw, flat_power[x], noise);
        const T norm = square_root(area * variance[x]);
        contrast[x] = norm + T(0.001);
        norms[x] = first ? norm : norms[x] + norm;
        strongest[x] = first ? contrast[x] : larger(contrast[x], strongest[x]);
      }
    }
    for (int j = 0; j < wy; ++j) a_[j] = totals_ + (y + j) % wy * this->stride_;
    flat_moments(a_, product_, total_);
  }

  // The sum of the exposures in a row, each minus its constant.
  void add_up(int64_t row) {
    T* FASTMEF_RESTRICT total = totals_ + row % pass_.shape.y.window * this->stride_;
    const int64_t n = this->stride_ - 2 * kLane;
    for (int k = 0; k < images(); ++k) {
      const T* FASTMEF_RESTRICT in = this->ring(row, k);
      const bool first = k == 0;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) total[x] = first ? in[x] : total[x] + in[x];
    }
  }

  // a_k = w_k / e_k, 0 without structure.
  void weigh() {
    const T* FASTMEF_RESTRICT norms = sum_;
    const T* FASTMEF_RESTRICT total_mean = product_;
    const T* FASTMEF_RESTRICT total = total_;
    T* FASTMEF_RESTRICT exponent = exponent_;
    const T area = area_, per_pixel = 1 / square_root(area_);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T variance = larger(total[x] - total_mean[x] * total_mean[x], T(0));
      exponent[x] = exponent_of(square_root(area * variance), norms[x]);
    }
    T* FASTMEF_RESTRICT sum = sum_;
    for (int k = 0; k < images(); ++k) {
      const T* FASTMEF_RESTRICT contrast = of(contrast_, k);
      T* FASTMEF_RESTRICT gain = of(gain_, k);
      const bool first = k == 0;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        gain[x] = power(contrast[x] * per_pixel, exponent[x]) + matlab_eps<T>();
        sum[x] = first ? gain[x] : sum[x] + gain[x];
      }
    }
    T* FASTMEF_RESTRICT flat = flat_variance_;
    T* FASTMEF_RESTRICT smooth = smooth_variance_;
    T* FASTMEF_RESTRICT moments = moments_;
    for (int k = 0; k < images(); ++k) {
      const T* FASTMEF_RESTRICT contrast = of(contrast_, k);
      const T* FASTMEF_RESTRICT variance = of(variance_, k);
      const T* FASTMEF_RESTRICT flat_power = of(flat_power_, k);
      const T* FASTMEF_RESTRICT mean = of(mean_, k);
      const T* FASTMEF_RESTRICT power = of(power_, k);
      T* FASTMEF_RESTRICT gain = of(gain_, k);
      if (k == 0) {
        for (int64_t x = 0; x < this->windows_; ++x) flat[x] = smooth[x] = moments[x] = 0;
      }
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        const T textured = variance[x] > 0 ? T(1) : T(0);
        gain[x] = gain[x] / sum[x] / contrast[x] * textured;
        const T square = gain[x] * gain[x];
        flat[x] += square * variance[x];
        smooth[x] += square * (power[x] - mean[x] * mean[x]);
        moments[x] += square * flat_power[x];
      }
    }
  }

  // The variances of sum_k a_k x_k, under the flat and under the Gaussian window.
  void combine_structures(int64_t y) {
    const int wy = pass_.shape.y.window;
    T* FASTMEF_RESTRICT flat = flat_variance_;
    T* FASTMEF_RESTRICT smooth = smooth_variance_;
    for (int k = 0; k < images(); ++k) {
      for (int l = 0; l < k; ++l) {
        for (int j = 0; j < wy; ++j) a_[j] = this->ring(y + j, k), b_[j] = this->ring(y + j, l);
        product(flat_y_);
        flat_along(down_, flat_product_);
        product(taps_);
        this->filter_along(down_, this->windows_, product_);
        const T* FASTMEF_RESTRICT flat_product = flat_product_;
        const T* FASTMEF_RESTRICT product = product_;
        const T* FASTMEF_RESTRICT flat_a = of(flat_mean_, k);
        const T* FASTMEF_RESTRICT flat_b = of(flat_mean_, l);
        const T* FASTMEF_RESTRICT mean_a = of(mean_, k);
        const T* FASTMEF_RESTRICT mean_b = of(mean_, l);
        const T* FASTMEF_RESTRICT gain_a = of(gain_, k);
        const T* FASTMEF_RESTRICT gain_b = of(gain_, l);
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < this->windows_; ++x) {
          const T both = 2 * gain_a[x] * gain_b[x];
          flat[x] += both * (flat_product[x] - flat_a[x] * flat_b[x]);
          smooth[x] += both * (product[x] - mean_a[x] * mean_b[x]);
        }
      }
    }
  }

  // Rescales the patch to the strongest contrast. Exposures that cancel leave only rounding, which
  // is not stretched.
  void write_maps(int64_t y) {
    const Axis &rows = pass_.shape.y, &columns = pass_.shape.x;
    const T* FASTMEF_RESTRICT flat = flat_variance_;
    const T* FASTMEF_RESTRICT smooth = smooth_variance_;
    const T* FASTMEF_RESTRICT moments = moments_;
    const T* FASTMEF_RESTRICT strongest = strongest_;
    T* FASTMEF_RESTRICT rescale = sum_;
    T* FASTMEF_RESTRICT variance = static_cast<T*>(pass_.maps.variance) +
                                   (this->batch_ * rows.windows() + y) * columns.windows() +
                                   this->b0_;
    const T noise = noise_, area = area_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) {
      const T power = beyond_rounding(flat[x], moments[x], noise);
      rescale[x] = strongest[x] / square_root(power > 0 ? area * power : T(1));
      variance[x] = larger(smooth[x] * rescale[x] * rescale[x], T(0));
    }
    for (int k = 0; k < images(); ++k) {
      const int64_t plane = this->batch_ * images() + k;
      const int64_t at = (plane * rows.windows() + y) * columns.windows() + this->b0_;
      T* FASTMEF_RESTRICT means = static_cast<T*>(pass_.maps.means) + at;
      T* FASTMEF_RESTRICT gains = static_cast<T*>(pass_.maps.gains) + at;
      const T* FASTMEF_RESTRICT mean = of(mean_, k);
      const T* FASTMEF_RESTRICT gain = of(gain_, k);
      const T shift = this->shifts_[k] - static_cast<T>(pass_.image_means[plane]);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) {
        means[x] = mean[x] + shift;
        gains[x] = gain[x] * rescale[x];
      }
    }
  }

  // The pixels of the tile minus the means of their planes.
  void write_exposures() {
    const int64_t height = pass_.shape.y.size, width = pass_.shape.x.size;
    for (int k = 0; k < images(); ++k) {
      const int64_t plane = this->batch_ * images() + k;
      const T mean = static_cast<T>(pass_.image_means[plane]);
      for (int64_t y = this->r0_; y < this->r1_; ++y) {
        const int64_t at = (plane * height + y) * width + this->c0_;
        const T* FASTMEF_RESTRICT in = static_cast<const T*>(pass_.images.data) + at;
        T* FASTMEF_RESTRICT out = static_cast<T*>(pass_.maps.exposures) + at;
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < this->c1_ - this->c0_; ++x) out[x] = in[x] - mean;
      }
    }
  }

  const LevelPass& pass_;
  T noise_, area_;
  int64_t next_total_ = 0;
  // One row an exposure.
  T *flat_mean_ = nullptr, *flat_power_ = nullptr, *mean_ = nullptr, *power_ = nullptr;
  T *variance_ = nullptr, *contrast_ = nullptr, *gain_ = nullptr;
  // Single rows.
  T *down_ = nullptr, *down_power_ = nullptr, *product_ = nullptr, *flat_product_ = nullptr;
  T *total_ = nullptr, *strongest_ = nullptr, *sum_ = nullptr, *exponent_ = nullptr;
  T *moments_ = nullptr, *flat_variance_ = nullptr, *smooth_variance_ = nullptr;
  T* totals_ = nullptr;  // a window of rows
  T *taps_ = nullptr, *flat_y_ = nullptr, *flat_x_ = nullptr;
  const T **a_ = nullptr, **b_ = nullptr;
};

template <class T>
void level(const MefShape& shape, const void* images, const Ma2015Maps& maps) {
  const int64_t height = shape.y.size, width = shape.x.size;
  const int count = static_cast<int>(shape.count);
  const Numbers image_means(shape.batch * count);
  plane_means<T>(images, shape.batch * count, height, width, nullptr, nullptr, shape.threads,
                 image_means.data);
  const LevelPass pass{
      shape,
      maps,
      {shape.y, shape.x, shape.taps_y, shape.taps_x, Tiles(shape.batch, height, width, kMefColumns),
       count, 0, false, false},
      planes<T>(images, count, height, width),
      image_means.data,
  };
  sweep_tiles<Ma2015Level<T>>(pass, shape.threads);
}

}  // namespace

namespace FASTMEF_ISA {

void ma2015_level(const MefShape& shape, const void* images, const Ma2015Maps& maps,
                  bool in_double) {
  in_double ? level<double>(shape, images, maps) : level<float>(shape, images, maps);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
