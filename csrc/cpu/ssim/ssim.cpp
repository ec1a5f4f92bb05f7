// SSIM of two images: the map, the sum, and the gradients w.r.t. both images, in one sweep.
//
//   dL/da = w * grad_mean_a + 2 a (w * grad_second_moment) + b (w * grad_cross),   likewise for b
//
// This file is compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the
// binding.

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"
#include "cpu/window/axis.h"

namespace fastmef {

struct SsimArgs {
  int64_t batch;
  Axis y, x;
  const double* taps_y;
  const double* taps_x;
  double c1, c2;
  bool luminance;
  Stack a, b;
  Stack values;       // optional: the map
  Stack grad_output;  // optional gradient w.r.t. the map; without it that is `weight` everywhere
  double weight;
  Stack grad_a, grad_b;  // optional gradients
  int threads;
};

FASTMEF_KERNEL(ssim, double(const SsimArgs&, bool in_double))

}  // namespace fastmef

#ifdef FASTMEF_ISA

#include "common/similarity.h"
#include "cpu/runtime/array.h"
#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

struct SsimPass {
  const SsimArgs& args;
  Sweep sweep;
  double* sums;  // optional: the sum of values of each tile
};

// Rows of moments, and of derivatives w.r.t. them.
enum { kMeanA, kMeanB, kSecondMoment, kCross, kMoments };

template <class T>
class Ssim : public WindowSweep<T, Ssim<T>> {
  using Base = WindowSweep<T, Ssim<T>>;
  friend Base;

 public:
  explicit Ssim(const SsimPass& pass) : Base(pass.sweep), args_(pass.args), sums_(pass.sums) {}

  void run(int64_t tile) {
    Base::run(tile);
    if (sums_) sums_[tile] = this->sum();
  }

 private:
  void carve_more(Arena& arena) {
    for (T*& rows : moments_) rows = arena.take<T>(kBlock * this->stride_);
    value_ = arena.take<T>(this->stride_);
    weight_ = arena.take<T>(this->stride_);
  }

  void clear_more() {
    for (int64_t x = 0; x < this->stride_; ++x) weight_[x] = static_cast<T>(args_.weight);
  }

  Pixels of(const Stack& stack) const { return {&stack, this->batch_ * stack.plane}; }
  Pixels image(int p) const { return of(p ? args_.b : args_.a); }
  Pixels target(int p) const { return of(p ? args_.grad_b : args_.grad_a); }

  void filter(int64_t y, int rows) {
    this->pair_moments(y, rows, moments_);
    first_ = y;
  }

  void windows(int64_t y) {
    if (args_.grad_output.data) {
      const Pixels grad_output = of(args_.grad_output);
      read(args_.grad_output, grad_output.at(y, this->b0_), args_.grad_output.column,
           this->windows_, weight_);
    }
    const int64_t row = (y - first_) * this->stride_;
    const bool gradient = this->sweep_.gradient;
    if (args_.luminance) {
      gradient ? compare<true, true>(row) : compare<true, false>(row);
    } else {
      gradient ? compare<false, true>(row) : compare<false, false>(row);
    }
    if (this->owns(y)) keep_owned(y);
  }

  // `row` is the offset of the moments of the row of windows.
  template <bool Luminance, bool Gradient>
  void compare(int64_t row) {
    const int64_t n = round_up(this->windows_);
    const T* FASTMEF_RESTRICT mean_a = moments_[kMeanA] + row;
    const T* FASTMEF_RESTRICT mean_b = moments_[kMeanB] + row;
    const T* FASTMEF_RESTRICT second_moment = moments_[kSecondMoment] + row;
    const T* FASTMEF_RESTRICT cross = moments_[kCross] + row;
    const T* FASTMEF_RESTRICT weight = weight_;
    T* FASTMEF_RESTRICT value = value_;
    T* FASTMEF_RESTRICT grad_mean_a = Gradient ? this->derivative(kMeanA) : nullptr;
    T* FASTMEF_RESTRICT grad_mean_b = Gradient ? this->derivative(kMeanB) : nullptr;
    T* FASTMEF_RESTRICT grad_second_moment = Gradient ? this->derivative(kSecondMoment) : nullptr;
    T* FASTMEF_RESTRICT grad_cross = Gradient ? this->derivative(kCross) : nullptr;
    const T c1 = static_cast<T>(args_.c1), c2 = static_cast<T>(args_.c2);
    const T shift_a = this->shifts_[0], shift_b = this->shifts_[1];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const Similarity<T> s = similarity<T, Luminance>(mean_a[x], mean_b[x], second_moment[x], T(0),
                                                       cross[x], shift_a, shift_b, c1, c2);
      value[x] = s.value;
      if (Gradient) {
        grad_mean_a[x] = weight[x] * s.grad_mean;
        grad_mean_b[x] = weight[x] * s.grad_mean_i;
        grad_second_moment[x] = weight[x] * s.grad_second_moment;
        grad_cross[x] = weight[x] * s.grad_cross;
      }
    }
  }

  // Writes or sums the values of the windows that the tile owns.
  void keep_owned(int64_t y) {
    if (args_.values.data && this->owned() > 0) {
      write(args_.values, of(args_.values).at(y, this->c0_), args_.values.column, this->owned(),
            value_ + this->first_owned());
    }
    if (sums_) this->add_to_sum(value_);
  }

  void combine(int64_t g, int p, T* FASTMEF_RESTRICT out) {
    const T* FASTMEF_RESTRICT mean = this->gathered(p ? kMeanB : kMeanA);
    const T* FASTMEF_RESTRICT second_moment = this->gathered(kSecondMoment);
    const T* FASTMEF_RESTRICT cross = this->gathered(kCross);
    const T* FASTMEF_RESTRICT own = this->ring(g, p) + (this->g0_ - this->b0_);
    const T* FASTMEF_RESTRICT other = this->ring(g, 1 - p) + (this->g0_ - this->b0_);
    const int64_t n = this->g1_ - this->g0_;
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) {
      out[i] = mean[i] + 2 * own[i] * second_moment[i] + other[i] * cross[i];
    }
  }

  const SsimArgs& args_;
  double* const sums_;
  T* moments_[kMoments] = {};
  T *value_ = nullptr, *weight_ = nullptr;
  int64_t first_ = 0;  // the first row of windows whose moments are known
};

template <class T>
double sweep(const SsimArgs& args) {
  const Tiles tiles(args.batch, args.y.size, args.x.size);
  const bool gradient = args.grad_a.data || args.grad_b.data;
  const bool sums_up = !args.values.data && !args.grad_output.data;
  const Array<double> sums(sums_up ? tiles.count : 0);
  const SsimPass pass{
      args,
      {args.y, args.x, args.taps_y, args.taps_x, tiles, 2, kMoments, gradient, false},
      sums.data};
  sweep_tiles<Ssim<T>>(pass, args.threads);
  double sum = 0.0;
  for (int64_t i = 0; sums_up && i < tiles.count; ++i) sum += sums.data[i];
  return sum;
}

}  // namespace

namespace FASTMEF_ISA {

double ssim(const SsimArgs& args, bool in_double) {
  return in_double ? sweep<double>(args) : sweep<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include "common/binding.h"
#include "cpu/runtime/large_pages.h"
#include "cpu/window/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `shape` is (N, H, W). Returns the sum of the map, or 0 if `values` or `grad_output` is given.
double ssim(bool in_double, const std::array<int64_t, 3>& shape, const TapList& taps_y,
            const TapList& taps_x, int border, bool luminance, double c1, double c2, const Stack& a,
            const Stack& b, const Stack& values, const Stack& grad_output, double weight,
            const Stack& grad_a, const Stack& grad_b, int threads) {
  const SsimArgs args{shape[0],
                      make_axis(shape[1], taps_y, border),
                      make_axis(shape[2], taps_x, border),
                      taps_y.data(),
                      taps_x.data(),
                      c1,
                      c2,
                      luminance,
                      a,
                      b,
                      values,
                      grad_output,
                      weight,
                      grad_a,
                      grad_b,
                      threads};
  const py::gil_scoped_release release;
  prefer_large_pages(grad_a, shape[0] * shape[1] * shape[2]);
  prefer_large_pages(grad_b, shape[0] * shape[1] * shape[2]);
  return ssim_kernel(args, in_double);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("ssim", &ssim); }

}  // namespace fastmef

#endif
