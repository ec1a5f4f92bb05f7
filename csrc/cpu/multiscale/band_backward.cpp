// The gradient of one band of multiscale_fuse w.r.t. the fused image of the next level: the
// backward pass of expand, applied to grad_fused * slope. This file is compiled once for every
// instruction set.

#include "cpu/multiscale/multiscale.h"
#include "cpu/multiscale/rows.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

constexpr int64_t kStrip = 64;  // rows

int64_t parts(int64_t size, int64_t part) { return (size + part - 1) / part; }

// A coarse row gathers the gradients of the four fine rows that it was expanded to; a border row
// also those of its repetition.
template <class T>
class Backward {
 public:
  Backward(const BandBackwardArgs& args, void* scratch) : args_(args), arena_(scratch) {
    stride_ = round_up(args.width + 4);
    sum_ = arena_.take<T>(stride_);
    grad_ = arena_.take<T>(stride_);
    slope_ = arena_.take<T>(stride_);
    out_ = arena_.take<T>(stride_);
  }

  size_t bytes() const { return arena_.used(); }

  void run(int64_t b, int64_t c, int64_t y) {
    const int64_t height = args_.height, width = args_.width;
    const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
    T* FASTMEF_RESTRICT sum = sum_ + 1;  // one value before the row and three after it stay 0
    for (int64_t x = -1; x < width + 3; ++x) sum[x] = 0;
    for (int64_t j = 0; j < 4; ++j) {
      const int64_t row = 2 * y - 1 + j;
      if (row < 0 || row >= height) continue;
      const T* FASTMEF_RESTRICT grad = row_of(b, c, row);
      const T weight = static_cast<T>(expansion_weight(j, y, rows, row));
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < width; ++x) sum[x] += weight * grad[x];
    }
    T* FASTMEF_RESTRICT out = out_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < columns; ++x) {
      out[x] =
          T(0.75) * (sum[2 * x] + sum[2 * x + 1]) + T(0.25) * (sum[2 * x - 1] + sum[2 * x + 2]);
    }
    out[0] += T(0.25) * sum[0];
    if (width % 2 == 0) out[columns - 1] += T(0.25) * sum[width - 1];
    const Stack& to = args_.grad_coarse;
    write(to, offset_of(to, b, 0, c, y, 0), to.column, columns, out_);
  }

 private:
  // Returns the weight of a coarse row in the j-th of its fine rows.
  static double expansion_weight(int64_t j, int64_t y, int64_t rows, int64_t row) {
    if (j == 0 || j == 3) return 0.25;
    const bool repeated = (y == 0 && row == 0) || (y == rows - 1 && row == 2 * y + 1);
    return repeated ? 1.0 : 0.75;
  }

  // Returns a row of grad * slope.
  const T* row_of(int64_t b, int64_t c, int64_t row) {
    read(args_.grad, offset_of(args_.grad, b, 0, c, row, 0), args_.grad.column, args_.width, grad_);
    if (args_.slope.data) {
      read(args_.slope, offset_of(args_.slope, b, 0, c, row, 0), args_.slope.column, args_.width,
           slope_);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < args_.width; ++x) grad_[x] *= slope_[x];
    }
    return grad_;
  }

  const BandBackwardArgs& args_;
  Arena arena_;
  int64_t stride_;
  T *sum_, *grad_, *slope_, *out_;
};

template <class T>
void backward_task(void* context, int64_t index, void* scratch) {
  const BandBackwardArgs& args = *static_cast<const BandBackwardArgs*>(context);
  const int64_t rows = (args.height + 1) / 2, strips = parts(rows, kStrip);
  const int64_t plane = index / strips, begin = index % strips * kStrip;
  Backward<T> backward(args, scratch);
  for (int64_t y = begin; y < least(begin + kStrip, rows); ++y) {
    backward.run(plane / args.channels, plane % args.channels, y);
  }
}

template <class T>
void band_backward(const BandBackwardArgs& args) {
  const int64_t tasks = args.batch * args.channels * parts((args.height + 1) / 2, kStrip);
  parallel_for(tasks, args.threads, Backward<T>(args, nullptr).bytes(), backward_task<T>,
               const_cast<BandBackwardArgs*>(&args));
}

}  // namespace

namespace FASTMEF_ISA {

void blend_band_backward(const BandBackwardArgs& args, bool in_double) {
  in_double ? band_backward<double>(args) : band_backward<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
