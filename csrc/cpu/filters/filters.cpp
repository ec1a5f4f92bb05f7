// local_variance, sobel_gradient and gamma_weights: one sweep computes a product of attributes of
// each exposure, and divides it by the sum over the exposures if that is wanted.
//
//   A_k = V_k S_k E_k,   gamma_k = A_k / (sum_j A_j + eps)
//   dL/dA_k = (u_k - sum_j u_j gamma_j) / (sum_j A_j + eps) for the gradient u of gamma
//
// The gradient w.r.t. V reaches the pixels through the windows' moments, that w.r.t. S through the
// two Sobel differences, that w.r.t. E directly. The rows of S and E are kept until all windows of
// V that cover a pixel are complete. This file is compiled once for every instruction set;
// FASTMEF_ISA names the set.

#include "cpu/filters/filters.h"

#include "cpu/filters/measure.h"

namespace fastmef {
namespace {

template <class T>
class Importance : public Measure<T, Importance<T>> {
  using Base = Measure<T, Importance<T>>;
  friend WindowSweep<T, Importance<T>>;
  using Base::args_, Base::has, Base::row;
  using Base::kV, Base::kGx, Base::kGy, Base::kS, Base::kE, Base::kProduct;

  // Rows of derivatives at pixels: w.r.t. the two Sobel differences and w.r.t. the pixel itself.
  enum { kGradGx, kGradGy, kGradPixel, kPixelRows };

 public:
  explicit Importance(const FilterPass& pass) : Base(pass) {
    slots_ = args_.y.window / 2 + kBlock + 2;
  }

 private:
  void carve_more(Arena& arena) {
    this->carve_rows(arena);
    if (!this->sweep_.gradient) return;
    grad_output_ = arena.take<T>(args_.count * this->stride_);
    at_pixels_ = arena.take<T>(slots_ * kPixelRows * args_.count * this->stride_);
    line_ = arena.take<T>(this->stride_);
  }

  void clear_more() {
    if (!this->sweep_.gradient) return;
    memset(at_pixels_, 0, sizeof(T) * slots_ * kPixelRows * args_.count * this->stride_);
    memset(grad_output_, 0, sizeof(T) * args_.count * this->stride_);
  }

  // Returns a row of derivatives at pixel row m; index i is column b0_ + i. Row m + slots_
  // overwrites row m.
  T* at_pixels(int64_t m, int what, int k) const {
    return this->pixel_row(at_pixels_, (m % slots_ * kPixelRows + what) * args_.count + k);
  }

  // Returns exposure k of a stack in the current batch.
  Pixels of(const Stack& stack, int k) const {
    return {&stack, this->batch_ * stack.plane + k * stack.layer};
  }
  Pixels image(int k) const { return of(args_.images, k); }
  Pixels target(int k) const { return of(args_.grad_images, k); }

  void windows(int64_t y) {
    for (int k = 0; k < args_.count; ++k) this->measure(y, k);
    if (args_.normalise) this->add_up();
    if (this->sweep_.gradient) {
      differentiate(y);
    } else if (this->owns(y)) {
      write_values(y);
    }
  }

  void write_values(int64_t y) {
    const Stack& out = args_.values;
    for (int k = 0; k < args_.count; ++k) {
      write(out, of(out, k).at(y, this->b0_), out.column, this->windows_, row(kProduct, k));
    }
  }

  // Fills the rows of derivatives of L w.r.t. the windows' moments and w.r.t. pixels.
  void differentiate(int64_t y) {
    const Stack& in = args_.grad_output;
    for (int k = 0; k < args_.count; ++k) {
      read(in, of(in, k).at(y, this->b0_), in.column, this->windows_, grad_output(k));
    }
    if (args_.normalise) normalise_backward();
    for (int k = 0; k < args_.count; ++k) {
      if (has(kVariance)) variance_backward(k);
      if (has(kGradient)) sobel_backward(y, k);
      if (has(kWellExposedness)) well_exposedness_backward(y, k);
    }
  }

  T* grad_output(int k) const { return grad_output_ + k * this->stride_; }

  // Replaces the gradient w.r.t. gamma by that w.r.t. A.
  void normalise_backward() {
    const int64_t n = round_up(this->windows_);
    T* FASTMEF_RESTRICT mean = line_;
    const T* FASTMEF_RESTRICT total = this->total();
    for (int64_t x = 0; x < n; ++x) mean[x] = 0;
    for (int k = 0; k < args_.count; ++k) {
      const T* FASTMEF_RESTRICT u = grad_output(k);
      const T* FASTMEF_RESTRICT gamma = row(kProduct, k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) mean[x] += u[x] * gamma[x];
    }
    for (int k = 0; k < args_.count; ++k) {
      T* FASTMEF_RESTRICT u = grad_output(k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) u[x] = (u[x] - mean[x]) / total[x];
    }
  }

  // Returns the gradient w.r.t. one attribute: that w.r.t. A_k times the other attributes.
  const T* grad_attribute(Attribute one, int k) {
    const int64_t n = round_up(this->windows_);
    const Attribute attributes[3] = {kVariance, kGradient, kWellExposedness};
    const int rows[3] = {kV, kS, kE};
    T* FASTMEF_RESTRICT out = line_;
    const T* FASTMEF_RESTRICT u = grad_output(k);
    for (int64_t x = 0; x < n; ++x) out[x] = u[x];
    for (int i = 0; i < 3; ++i) {
      if (attributes[i] == one || !has(attributes[i])) continue;
      const T* FASTMEF_RESTRICT factor = row(rows[i], k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) out[x] *= factor[x];
    }
    return line_;
  }

  // Computes the derivatives w.r.t. the moments of the windows of exposure k.
  void variance_backward(int k) {
    const int64_t n = round_up(this->windows_);
    const T* FASTMEF_RESTRICT grad_v = grad_attribute(kVariance, k);
    const T* FASTMEF_RESTRICT mean = this->mean(k);
    const T* FASTMEF_RESTRICT second_moment = this->second_moment(k);
    T* FASTMEF_RESTRICT grad_mean = this->derivative(2 * k);
    T* FASTMEF_RESTRICT grad_second_moment = this->derivative(2 * k + 1);
    const T floor = static_cast<T>(args_.floor);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T grad = is_floored(mean[x], second_moment[x], floor) ? T(0) : grad_v[x];
      grad_mean[x] = T(-2) * grad * mean[x];
      grad_second_moment[x] = grad;
    }
  }

  // Returns a row of derivatives from the centre of the first window on.
  T* centres(int64_t y, int what, int k) {
    return at_pixels(y + args_.y.window / 2, what, k) + args_.x.window / 2;
  }
  // Clears the rest of a row of derivatives after the centre of the last window.
  void clear_beyond(T* centres) {
    const int64_t used = kLane + args_.x.window / 2 + this->windows_;
    memset(centres + this->windows_, 0, sizeof(T) * (this->stride_ - used));
  }

  // Computes the derivatives w.r.t. the Sobel differences of exposure k.
  void sobel_backward(int64_t y, int k) {
    const int64_t n = round_up(this->windows_);
    const T* FASTMEF_RESTRICT grad_s = grad_attribute(kGradient, k);
    const T* FASTMEF_RESTRICT gx = row(kGx, k);
    const T* FASTMEF_RESTRICT gy = row(kGy, k);
    const T* FASTMEF_RESTRICT s = row(kS, k);
    T* FASTMEF_RESTRICT grad_gx = centres(y, kGradGx, k);
    T* FASTMEF_RESTRICT grad_gy = centres(y, kGradGy, k);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T slope = grad_s[x] / (s[x] == 0 ? T(1) : s[x]);
      grad_gx[x] = slope * gx[x];
      grad_gy[x] = slope * gy[x];
    }
    clear_beyond(grad_gx);
    clear_beyond(grad_gy);
    // Backward of repeating the image's edge: differences change sign there, sums do not.
    if (args_.x.window == 1 && this->b0_ == 0) {
      grad_gx[-1] = -grad_gx[0];
      grad_gy[-1] = grad_gy[0];
    }
    if (args_.x.window == 1 && this->b1_ == args_.x.size) {
      grad_gx[this->windows_] = -grad_gx[this->windows_ - 1];
      grad_gy[this->windows_] = grad_gy[this->windows_ - 1];
    }
  }

  // Uses dE/dx = -E (x - 0.5) / 0.2^2.
  void well_exposedness_backward(int64_t y, int k) {
    const int64_t n = round_up(this->windows_);
    const T* FASTMEF_RESTRICT grad_e = grad_attribute(kWellExposedness, k);
    const T* FASTMEF_RESTRICT e = row(kE, k);
    const T* FASTMEF_RESTRICT pixel = this->ring(y + args_.y.window / 2, k) + args_.x.window / 2;
    T* FASTMEF_RESTRICT out = centres(y, kGradPixel, k);
    const T offset = this->shifts_[k] - T(0.5);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] = T(-25) * grad_e[x] * e[x] * (pixel[x] + offset);
    clear_beyond(out);
  }

  void no_windows(int64_t y) {
    for (int i = 0; i < kPixelRows * args_.count; ++i) {
      T* pixels = at_pixels(y + args_.y.window / 2, i / args_.count, i % args_.count);
      memset(pixels - kLane, 0, sizeof(T) * this->stride_);
    }
  }

  void combine(int64_t g, int k, T* FASTMEF_RESTRICT out) {
    const int64_t n = this->g1_ - this->g0_;
    const int64_t offset = this->g0_ - this->b0_;
    for (int64_t i = 0; i < n; ++i) out[i] = 0;
    if (has(kVariance)) {
      const T* FASTMEF_RESTRICT mean = this->gathered(2 * k);
      const T* FASTMEF_RESTRICT second_moment = this->gathered(2 * k + 1);
      const T* FASTMEF_RESTRICT pixel = this->ring(g, k) + offset;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) out[i] = mean[i] + 2 * pixel[i] * second_moment[i];
    }
    if (has(kGradient)) add_sobel_backward(g, k, out);
    if (has(kWellExposedness)) {
      const T* FASTMEF_RESTRICT grad_pixel = at_pixels(g, kGradPixel, k) + offset;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) out[i] += grad_pixel[i];
    }
  }

  // Adds the gradient through the Sobel differences.
  void add_sobel_backward(int64_t g, int k, T* FASTMEF_RESTRICT out) {
    const int64_t n = this->g1_ - this->g0_;
    const int64_t offset = this->g0_ - this->b0_;
    const int64_t last = args_.y.size - 1;
    const int64_t above = most(g - 1, 0), below = least(g + 1, last);
    const T* FASTMEF_RESTRICT x0 = at_pixels(above, kGradGx, k) + offset;
    const T* FASTMEF_RESTRICT x1 = at_pixels(g, kGradGx, k) + offset;
    const T* FASTMEF_RESTRICT x2 = at_pixels(below, kGradGx, k) + offset;
    const T* FASTMEF_RESTRICT y0 = at_pixels(above, kGradGy, k) + offset;
    const T* FASTMEF_RESTRICT y2 = at_pixels(below, kGradGy, k) + offset;
    const T sign0 = g == 0 ? T(-1) : T(1), sign2 = g == last ? T(-1) : T(1);
    T* FASTMEF_RESTRICT across = row(kGx, 0) + kLane;
    T* FASTMEF_RESTRICT down = row(kGy, 0) + kLane;
    FASTMEF_VECTORIZE
    for (int64_t i = -1; i <= n; ++i) {
      across[i] = x0[i] + 2 * x1[i] + x2[i];
      down[i] = sign0 * y0[i] - sign2 * y2[i];
    }
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) {
      out[i] += across[i - 1] - across[i + 1] + down[i - 1] + 2 * down[i] + down[i + 1];
    }
  }

  int64_t slots_ = 0;
  T *grad_output_ = nullptr, *at_pixels_ = nullptr, *line_ = nullptr;
};

template <class T>
void sweep(const FilterArgs& args) {
  const Tiles tiles(args.batch, args.y.size, args.x.size);
  const int maps = args.attributes & kVariance ? 2 * args.count : 0;
  const FilterPass pass{args,
                        {args.y, args.x, args.taps_y, args.taps_x, tiles, args.count, maps,
                         args.grad_images.data != nullptr, (args.attributes & kGradient) != 0}};
  sweep_tiles<Importance<T>>(pass, args.threads);
}

}  // namespace

namespace FASTMEF_ISA {

void filters(const FilterArgs& args, bool in_double) {
  in_double ? sweep<double>(args) : sweep<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
