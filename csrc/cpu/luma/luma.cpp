// Luma of exposures of any storage type, in [0, 1].
//
// Compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the binding.

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

struct LumaArgs {
  int64_t batch, count, height, width;
  Stack exposures;  // (B, K, 3, H, W)
  Stack luma;       // (B, K, 1, H, W), written
  double gray[3];   // coefficients, for the unit of the exposures
  int threads;
};

FASTMEF_KERNEL(stored_luma, void(const LumaArgs&, bool in_double))

}  // namespace fastmef

#ifdef FASTMEF_ISA

#include "cpu/runtime/arena.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

constexpr int64_t kTaskPixels = 32768;
constexpr int64_t kBlock = 1024;  // columns whose channels stay in the first cache

int64_t rows_per_task(const LumaArgs& args) { return most(1, kTaskPixels / args.width); }
int64_t all_rows(const LumaArgs& args) { return args.batch * args.count * args.height; }

template <class T>
T* channels_of(Arena& arena) {
  return arena.take<T>(3 * kBlock);
}

template <class T>
void luma_of_row(const LumaArgs& args, int64_t b, int64_t k, int64_t y, T* channels) {
  const Stack &from = args.exposures, &to = args.luma;
  for (int64_t x = 0; x < args.width; x += kBlock) {
    const int64_t n = least(kBlock, args.width - x);
    for (int64_t c = 0; c < 3; ++c) {
      read(from, offset_of(from, b, k, c, y, x), from.column, n, channels + c * kBlock);
    }
    T* FASTMEF_RESTRICT row = channels;
    const T red = static_cast<T>(args.gray[0]), green = static_cast<T>(args.gray[1]);
    const T blue = static_cast<T>(args.gray[2]);
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) {
      row[i] = red * row[i] + green * row[kBlock + i] + blue * row[2 * kBlock + i];
    }
    write(to, offset_of(to, b, k, y, x), to.column, n, row);
  }
}

template <class T>
void luma_task(void* context, int64_t index, void* scratch) {
  const LumaArgs& args = *static_cast<const LumaArgs*>(context);
  Arena arena(scratch);
  T* channels = channels_of<T>(arena);
  const int64_t begin = index * rows_per_task(args);
  for (int64_t r = begin; r < least(begin + rows_per_task(args), all_rows(args)); ++r) {
    const int64_t image = r / args.height;
    luma_of_row(args, image / args.count, image % args.count, r % args.height, channels);
  }
}

template <class T>
void luma(const LumaArgs& args) {
  const int64_t rows = rows_per_task(args);
  Arena counted(nullptr);
  channels_of<T>(counted);
  parallel_for((all_rows(args) + rows - 1) / rows, args.threads, counted.used(), luma_task<T>,
               const_cast<LumaArgs*>(&args));
}

}  // namespace

namespace FASTMEF_ISA {

void stored_luma(const LumaArgs& args, bool in_double) {
  in_double ? luma<double>(args) : luma<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include "common/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `shape` is (B, K, 3, H, W).
void stored_luma(bool in_double, const std::array<int64_t, 5>& shape, const Stack& exposures,
                 const Stack& luma, const std::array<double, 3>& gray, int threads) {
  const LumaArgs args{
      shape[0], shape[1], shape[3], shape[4], exposures, luma, {gray[0], gray[1], gray[2]},
      threads};
  const py::gil_scoped_release release;
  stored_luma_kernel(args, in_double);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("stored_luma", &stored_luma); }

}  // namespace fastmef

#endif
