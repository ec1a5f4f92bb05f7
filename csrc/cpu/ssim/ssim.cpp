// SSIM of two images: its map, its sum, and its gradients by both images, in one sweep.
//
//   dL/da = w * d_mean_a + 2 a (w * d_power) + b (w * d_cross),   likewise for b
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.

#include "cpu/ssim/ssim.h"

#include "common/similarity.h"
#include "cpu/runtime/array.h"
#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

struct SsimPass {
  const SsimArgs& args;
  Sweep sweep;
};

// Rows of moments, and of derivatives by them.
enum { kMeanA, kMeanB, kPower, kCross, kMoments };

template <class T>
class Ssim : public WindowSweep<T, Ssim<T>> {
  using Base = WindowSweep<T, Ssim<T>>;
  friend Base;

 public:
  explicit Ssim(const SsimPass& pass) : Base(pass.sweep), args_(pass.args) {}

  void run(int64_t tile) {
    for (int64_t x = 0; x < this->stride_; ++x) sums_[x] = 0.0;
    Base::run(tile);
    if (!args_.sums) return;
    double sum = 0.0;
    const int64_t first = this->c0_ - this->b0_;
    const int64_t last = least(this->c1_, args_.x.windows()) - this->b0_;
    for (int64_t x = first; x < last; ++x) sum += sums_[x];
    args_.sums[tile] = sum;
  }

 private:
  void carve_more(Arena& arena) {
    for (T*& row : moments_) row = arena.take<T>(this->stride_);
    value_ = arena.take<T>(this->stride_);
    weight_ = arena.take<T>(this->stride_);
    sums_ = arena.take<double>(this->stride_);
  }

  void clear_more() {
    for (int64_t x = 0; x < this->stride_; ++x) weight_[x] = static_cast<T>(args_.weight);
  }

  Pixels of(const Stack& stack) const { return {&stack, this->batch_ * stack.plane}; }
  Pixels image(int p) const { return of(p ? args_.b : args_.a); }
  Pixels target(int p) const { return of(p ? args_.by_b : args_.by_a); }

  void windows(int64_t y) {
    this->pair_moments(y, moments_);
    if (args_.upstream.data) {
      const Pixels upstream = of(args_.upstream);
      read(args_.upstream, upstream.at(y, this->b0_), args_.upstream.column, this->windows_,
           weight_);
    }
    const bool gradient = this->sweep_.gradient;
    if (args_.luminance) {
      gradient ? compare<true, true>() : compare<true, false>();
    } else {
      gradient ? compare<false, true>() : compare<false, false>();
    }
    if (this->owns(y)) keep(y);
  }

  void no_windows(int64_t) {}

  template <bool Luminance, bool Gradient>
  void compare() {
    const int64_t n = round_up(this->windows_);
    const T* FASTMEF_RESTRICT mean_a = moments_[kMeanA];
    const T* FASTMEF_RESTRICT mean_b = moments_[kMeanB];
    const T* FASTMEF_RESTRICT power = moments_[kPower];
    const T* FASTMEF_RESTRICT cross = moments_[kCross];
    const T* FASTMEF_RESTRICT weight = weight_;
    T* FASTMEF_RESTRICT value = value_;
    T* FASTMEF_RESTRICT by_mean_a = Gradient ? this->derivative(kMeanA) : nullptr;
    T* FASTMEF_RESTRICT by_mean_b = Gradient ? this->derivative(kMeanB) : nullptr;
    T* FASTMEF_RESTRICT by_power = Gradient ? this->derivative(kPower) : nullptr;
    T* FASTMEF_RESTRICT by_cross = Gradient ? this->derivative(kCross) : nullptr;
    const T c1 = static_cast<T>(args_.c1), c2 = static_cast<T>(args_.c2);
    const T shift_a = this->shifts_[0], shift_b = this->shifts_[1];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const Similarity<T> s = similarity<T, Luminance>(mean_a[x], mean_b[x], power[x], T(0),
                                                       cross[x], shift_a, shift_b, c1, c2);
      value[x] = s.value;
      if (Gradient) {
        by_mean_a[x] = weight[x] * s.by_mean;
        by_mean_b[x] = weight[x] * s.by_mean_i;
        by_power[x] = weight[x] * s.by_power;
        by_cross[x] = weight[x] * s.by_cross;
      }
    }
  }

  // The values of the windows that the tile owns.
  void keep(int64_t y) {
    const int64_t first = this->c0_ - this->b0_;
    const int64_t n = least(this->c1_, args_.x.windows()) - this->c0_;
    if (args_.values.data && n > 0) {
      write(args_.values, of(args_.values).at(y, this->c0_), args_.values.column, n,
            value_ + first);
    }
    if (!args_.sums) return;
    double* FASTMEF_RESTRICT sums = sums_;
    const T* FASTMEF_RESTRICT value = value_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < this->windows_; ++x) sums[x] += value[x];
  }

  void combine(int64_t g, int p, T* FASTMEF_RESTRICT out) {
    const T* FASTMEF_RESTRICT mean = this->gathered(p ? kMeanB : kMeanA);
    const T* FASTMEF_RESTRICT power = this->gathered(kPower);
    const T* FASTMEF_RESTRICT cross = this->gathered(kCross);
    const T* FASTMEF_RESTRICT own = this->ring(g, p) + (this->g0_ - this->b0_);
    const T* FASTMEF_RESTRICT other = this->ring(g, 1 - p) + (this->g0_ - this->b0_);
    const int64_t n = this->g1_ - this->g0_;
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) out[i] = mean[i] + 2 * own[i] * power[i] + other[i] * cross[i];
  }

  const SsimArgs& args_;
  T* moments_[kMoments] = {};
  T *value_ = nullptr, *weight_ = nullptr;
  double* sums_ = nullptr;
};

template <class T>
double sweep(const SsimArgs& given) {
  SsimArgs args = given;
  const Tiles tiles(args.batch, args.y.size, args.x.size);
  const bool gradient = args.by_a.data || args.by_b.data;
  const Array<double> sums(tiles.count);
  if (!args.values.data && !args.upstream.data) args.sums = sums.data;
  const SsimPass pass{
      args, {args.y, args.x, args.taps_y, args.taps_x, tiles, 2, kMoments, gradient, false}};
  sweep_tiles<Ssim<T>>(pass, args.threads);
  double sum = 0.0;
  for (int64_t i = 0; args.sums && i < tiles.count; ++i) sum += sums.data[i];
  return sum;
}

}  // namespace

namespace FASTMEF_ISA {

double ssim(const SsimArgs& args, bool in_double) {
  return in_double ? sweep<double>(args) : sweep<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
