// One step of the descent on the logits of a base: the gradient w.r.t. the logits from that w.r.t.
// the luma of the fusion, Adam's update, and the luma of the fusion with the new logits, in one
// sweep. See fastmef/reference/descent.py for the formulas.
//
// Compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the binding.

#include <stdint.h>

#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// A part of the gradient w.r.t. luma (H, W): `factor` times that of an image that was halved
// `halvings` times, by means of 2x2 pixels.
struct GradientPart {
  const void* gradient;
  double factor;
  int halvings;
};

// All arrays are contiguous and have the type that is used in computations.
struct DescentArgs {
  int64_t count, height, width;
  const void* exposures;  // (K, H, W): their luma
  void* logits;           // (K, H, W), updated as the next two
  void* mean;
  void* second_moment;
  void* luma;  // (H, W)
  const GradientPart* parts;
  int64_t parts_count;
  double constant;  // added to the gradient w.r.t. luma
  double momentum, decay, rate, epsilon;
  int threads;
};

FASTMEF_KERNEL(descent_step, void(const DescentArgs&, bool in_double))

}  // namespace fastmef

#ifdef FASTMEF_ISA

#include "common/math.h"
#include "cpu/fusion/softmax_rows.h"
#include "cpu/runtime/blocks.h"

namespace fastmef {
namespace {

constexpr int64_t kRows = 8;  // rows of a block

template <class T>
class DescentRows {
 public:
  DescentRows(const DescentArgs& args, Arena& arena) : args_(args) {
    const int64_t count = args.count, width = args.width;
    weights_ = arena.take<T>(count * width);
    T** const rows[] = {&gradient_, &line_[0], &line_[1], &fused_, &highest_, &total_};
    for (T** row : rows) *row = arena.take<T>(width + 1);
    logit_rows_ = arena.take<const T*>(count);
    weight_rows_ = arena.take<T*>(count);
    luma_rows_ = arena.take<const T*>(count);
  }

  void run(int64_t block) {
    const int64_t end = least((block + 1) * kRows, args_.height);
    for (int64_t y = block * kRows; y < end; ++y) step_row(y);
  }

 private:
  // Makes the step of one row.
  void step_row(int64_t y) {
    for (int64_t k = 0; k < args_.count; ++k) {
      logit_rows_[k] = row_of(args_.logits, k, y);
      luma_rows_[k] = static_cast<const T*>(args_.exposures) + (k * args_.height + y) * args_.width;
      weight_rows_[k] = weights_ + k * args_.width;
    }
    const int count = static_cast<int>(args_.count);
    softmax_row(logit_rows_, count, args_.width, weight_rows_, highest_, total_);
    add_parts(y);
    weighted_sum_row(weight_rows_, luma_rows_, count, args_.width, fused_);
    for (int64_t k = 0; k < args_.count; ++k) update(k, y);
    softmax_row(logit_rows_, count, args_.width, weight_rows_, highest_, total_);
    T* luma = static_cast<T*>(args_.luma) + y * args_.width;
    weighted_sum_row(weight_rows_, luma_rows_, count, args_.width, luma);
  }

  T* row_of(void* stack, int64_t k, int64_t y) const {
    return static_cast<T*>(stack) + (k * args_.height + y) * args_.width;
  }

  // Returns how much pixel i of an axis counts in a mean of two; an odd last pixel is repeated.
  static T share(int64_t i, int64_t size) { return size % 2 && i == size - 1 ? T(1) : T(0.5); }

  // Backpropagates a row through one halving of an axis with n pixels.
  static void unhalve(const T* FASTMEF_RESTRICT in, int64_t n, T* FASTMEF_RESTRICT out) {
    for (int64_t i = 0; i < n / 2; ++i) out[2 * i] = out[2 * i + 1] = T(0.5) * in[i];
    if (n % 2) out[n - 1] = in[n / 2];
  }

  // Computes the gradient w.r.t. luma of row y.
  void add_parts(int64_t y) {
    T* FASTMEF_RESTRICT gradient = gradient_;
    const T constant = static_cast<T>(args_.constant);
    for (int64_t x = 0; x < args_.width; ++x) gradient[x] = constant;
    for (int64_t i = 0; i < args_.parts_count; ++i) {
      const GradientPart& part = args_.parts[i];
      T factor = static_cast<T>(part.factor);
      int64_t row = y, height = args_.height;
      for (int level = 0; level < part.halvings; ++level) {
        factor *= share(row, height);
        row /= 2, height = (height + 1) / 2;
      }
      const T* FASTMEF_RESTRICT in = enlarged(part, row);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < args_.width; ++x) gradient[x] += factor * in[x];
    }
  }

  // Backpropagates a row of a part through the halvings along the rows.
  const T* enlarged(const GradientPart& part, int64_t row) {
    const auto width_at = [&](int halvings) { return ((args_.width - 1) >> halvings) + 1; };
    const T* in = static_cast<const T*>(part.gradient) + row * width_at(part.halvings);
    for (int level = part.halvings - 1; level >= 0; --level) {
      T* out = line_[level % 2];
      unhalve(in, width_at(level), out);
      in = out;
    }
    return in;
  }

  // Updates the logits of exposure k and the moments of their gradients.
  void update(int64_t k, int64_t y) {
    const T* FASTMEF_RESTRICT weight = weight_rows_[k];
    const T* FASTMEF_RESTRICT luma = luma_rows_[k];
    const T* FASTMEF_RESTRICT gradient = gradient_;
    const T* FASTMEF_RESTRICT fused = fused_;
    T* FASTMEF_RESTRICT logit = row_of(args_.logits, k, y);
    T* FASTMEF_RESTRICT mean = row_of(args_.mean, k, y);
    T* FASTMEF_RESTRICT second_moment = row_of(args_.second_moment, k, y);
    const T renewal = static_cast<T>(1 - args_.momentum);
    const T decay = static_cast<T>(args_.decay), rest = static_cast<T>(1 - args_.decay);
    const T rate = static_cast<T>(args_.rate), epsilon = static_cast<T>(args_.epsilon);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < args_.width; ++x) {
      const T slope = weight[x] * gradient[x] * (luma[x] - fused[x]);
      const T m = mean[x] + renewal * (slope - mean[x]);
      const T v = decay * second_moment[x] + rest * (slope * slope);
      mean[x] = m;
      second_moment[x] = v;
      logit[x] -= rate * m / (square_root(v) + epsilon);
    }
  }

  const DescentArgs& args_;
  T *weights_, *gradient_, *fused_, *highest_, *total_;
  T* line_[2];
  const T** logit_rows_;
  T** weight_rows_;
  const T** luma_rows_;
};

template <class T>
void step(const DescentArgs& args) {
  run_blocks<DescentRows<T>>(args, (args.height + kRows - 1) / kRows);
}

}  // namespace

namespace FASTMEF_ISA {

void descent_step(const DescentArgs& args, bool in_double) {
  in_double ? step<double>(args) : step<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include <tuple>
#include <vector>

#include "common/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `sizes` is (K, H, W). The addresses are those of exposures, logits, mean, second moment and luma,
// the parts are (address, factor, halvings), and `adam` is momentum, decay, rate and epsilon.
void descent_step(bool in_double, const std::array<int64_t, 3>& sizes,
                  const std::array<int64_t, 5>& addresses,
                  const std::vector<std::tuple<int64_t, double, int>>& parts, double constant,
                  const std::array<double, 4>& adam, int threads) {
  std::vector<GradientPart> list;
  for (const auto& [gradient, factor, halvings] : parts) {
    list.push_back({pointer(gradient), factor, halvings});
  }
  const DescentArgs args{sizes[0],
                         sizes[1],
                         sizes[2],
                         pointer(addresses[0]),
                         pointer(addresses[1]),
                         pointer(addresses[2]),
                         pointer(addresses[3]),
                         pointer(addresses[4]),
                         list.data(),
                         static_cast<int64_t>(list.size()),
                         constant,
                         adam[0],
                         adam[1],
                         adam[2],
                         adam[3],
                         threads};
  const py::gil_scoped_release release;
  descent_step_kernel(args, in_double);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("descent_step", &descent_step); }

}  // namespace fastmef

#endif
