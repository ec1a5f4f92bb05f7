// Bilinear upsampling by 2 of features with a margin, and other features behind their channels, in
// one sweep over the result.
//
// Compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the binding.

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// `features` is a dense (height + 2, width + 2, channels) array, `skipped` (2 height + 2,
// 2 width + 2, skipped_channels), and `out` has the channels of both. Sides include the margin of
// one pixel, so that no pixel of `out` needs one beyond the border of `features`.
struct UpsampleJoinArgs {
  const void *features, *skipped;
  int64_t height, width, channels, skipped_channels;
  DType dtype;
  void* out;
  int threads;
};

FASTMEF_KERNEL(upsample_join, void(const UpsampleJoinArgs&))

}  // namespace fastmef

#ifdef FASTMEF_ISA

#include <string.h>

#include "cpu/runtime/blocks.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

constexpr int64_t kRows = 4;  // of a block, whose rows of features stay in the caches

template <class T>
class UpsampleJoin {
 public:
  UpsampleJoin(const UpsampleJoinArgs& args, Arena& arena)
      : args_(args), mixed_(arena.take<T>((args.width + 2) * args.channels)) {}

  void run(int64_t block) { FASTMEF_FOR_STORAGE(args_.dtype, join_rows, block) }

 private:
  template <class S>
  void join_rows(int64_t block) {
    const int64_t last = least((block + 1) * kRows, 2 * args_.height + 2);
    for (int64_t y = block * kRows; y < last; ++y) {
      mix_rows<S>(y);
      write_row<S>(y);
    }
  }

  // Returns the index of the pixel that contains pixel i of the result.
  static int64_t own(int64_t i) { return (i + 1) / 2; }
  // Returns the index of the other pixel that pixel i of the result lies next to.
  static int64_t other(int64_t i) { return i % 2 ? own(i) - 1 : own(i) + 1; }

  // Interpolates between the two rows around row y of the result.
  template <class S>
  void mix_rows(int64_t y) {
    const int64_t n = (args_.width + 2) * args_.channels;
    const S* const from = static_cast<const S*>(args_.features);
    const S* FASTMEF_RESTRICT near = from + own(y) * n;
    const S* FASTMEF_RESTRICT far = from + other(y) * n;
    T* FASTMEF_RESTRICT out = mixed_;
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) {
      out[i] = T(0.75) * to_number<T>(near[i]) + T(0.25) * to_number<T>(far[i]);
    }
  }

  template <class S>
  void write_row(int64_t y) const {
    const int64_t columns = 2 * args_.width + 2, channels = args_.channels;
    const int64_t behind = args_.skipped_channels;
    const S* skipped = static_cast<const S*>(args_.skipped) + y * columns * behind;
    S* out = static_cast<S*>(args_.out) + y * columns * (channels + behind);
    for (int64_t x = 0; x < columns; ++x) {
      const T* FASTMEF_RESTRICT near = mixed_ + own(x) * channels;
      const T* FASTMEF_RESTRICT far = mixed_ + other(x) * channels;
      S* FASTMEF_RESTRICT to = out;
      FASTMEF_VECTORIZE
      for (int64_t c = 0; c < channels; ++c) {
        from_number(T(0.75) * near[c] + T(0.25) * far[c], to[c]);
      }
      memcpy(out + channels, skipped, sizeof(S) * static_cast<size_t>(behind));
      out += channels + behind;
      skipped += behind;
    }
  }

  const UpsampleJoinArgs& args_;
  T* const mixed_;
};

template <class T>
void upsample_join_as(const UpsampleJoinArgs& args) {
  run_blocks<UpsampleJoin<T>>(args, (2 * args.height + 2 + kRows - 1) / kRows);
}

}  // namespace

namespace FASTMEF_ISA {

void upsample_join(const UpsampleJoinArgs& args) {
  args.dtype == kFloat64 ? upsample_join_as<double>(args) : upsample_join_as<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include "common/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `sizes` is (height, width, channels, skipped_channels).
void upsample_join(int64_t features, int64_t skipped, const std::array<int64_t, 4>& sizes,
                   int dtype, int64_t out, int threads) {
  const UpsampleJoinArgs args{
      pointer(features), pointer(skipped),          sizes[0],     sizes[1], sizes[2],
      sizes[3],          static_cast<DType>(dtype), pointer(out), threads};
  const py::gil_scoped_release release;
  upsample_join_kernel(args);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("upsample_join", &upsample_join); }

}  // namespace fastmef

#endif
