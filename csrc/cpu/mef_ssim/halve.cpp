// The images of the next scale: means of 2x2 blocks, where an odd last row or column is repeated.
//
// This file is compiled once for every instruction set; FASTMEF_ISA names the set.
#include "cpu/mef_ssim/mef_ssim.h"
#include "cpu/runtime/lanes.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

template <class T>
struct HalvePass {
  static constexpr int64_t kRows = 16;
  const HalveArgs& args;

  int64_t rows() const { return (args.height + 1) / 2; }
  int64_t strips() const { return (rows() + kRows - 1) / kRows; }

  void run(int64_t task) const {
    const int64_t plane = task / strips(), begin = task % strips() * kRows;
    const int64_t end = begin + kRows < rows() ? begin + kRows : rows();
    const int64_t width = args.width, whole = width / 2, columns = (width + 1) / 2;
    for (int64_t y = begin; y < end; ++y) {
      const int64_t below = 2 * y + 1 < args.height ? 2 * y + 1 : 2 * y;
      const T* images = static_cast<const T*>(args.images) + plane * args.height * width;
      const T* FASTMEF_RESTRICT a = images + 2 * y * width;
      const T* FASTMEF_RESTRICT b = images + below * width;
      T* FASTMEF_RESTRICT out = static_cast<T*>(args.out) + (plane * rows() + y) * columns;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < whole; ++x) {
        out[x] = T(0.25) * ((a[2 * x] + b[2 * x]) + (a[2 * x + 1] + b[2 * x + 1]));
      }
      if (whole < columns) out[whole] = T(0.5) * (a[width - 1] + b[width - 1]);
    }
  }
};

template <class T>
void halve_planes(const HalveArgs& args) {
  HalvePass<T> pass{args};
  const Task task = [](void* context, int64_t index, void*) {
    static_cast<const HalvePass<T>*>(context)->run(index);
  };
  parallel_for(args.planes * pass.strips(), args.threads, sizeof(T), task, &pass);
}

}  // namespace

namespace FASTMEF_ISA {

void halve(const HalveArgs& args, bool in_double) {
  in_double ? halve_planes<double>(args) : halve_planes<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
