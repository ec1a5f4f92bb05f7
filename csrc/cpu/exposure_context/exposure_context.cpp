// Mean and maximum over the exposures of feature maps, which a network reads side by side.
//
// Compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the binding.

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// `frames` are the addresses of K dense (pixels, channels) arrays, `out` is (pixels, 2, channels):
// the mean with the weights `parts`, and the maximum.
struct ContextArgs {
  const void* const* frames;
  const double* parts;
  int64_t count, pixels, channels;
  DType dtype;
  void* out;
  int threads;
};

FASTMEF_KERNEL(exposure_context, void(const ContextArgs&))

}  // namespace fastmef

#ifdef FASTMEF_ISA

#include "common/math.h"
#include "cpu/runtime/blocks.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

constexpr int64_t kValues = 4096;  // of a block, whose rows stay in the first cache

int64_t block_pixels(const ContextArgs& args) { return most(1, kValues / args.channels); }

template <class T>
class ContextBlock {
 public:
  ContextBlock(const ContextArgs& args, Arena& arena) : args_(args) {
    const int64_t values = block_pixels(args) * args.channels;
    T** const rows[] = {&value_, &sum_, &largest_};
    for (T** row : rows) *row = arena.take<T>(values);
  }

  void run(int64_t index) {
    const int64_t begin = index * block_pixels(args_);
    const int64_t pixels = least(block_pixels(args_), args_.pixels - begin);
    if (args_.count == 2) {
      FASTMEF_FOR_STORAGE(args_.dtype, join_two, begin * args_.channels, pixels)
    }
    for (int64_t k = 0; k < args_.count; ++k) add(k, begin * args_.channels, pixels);
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t at = 2 * (begin + i) * args_.channels;
      write(out(), at, 1, args_.channels, sum_ + i * args_.channels);
      write(out(), at + args_.channels, 1, args_.channels, largest_ + i * args_.channels);
    }
  }

 private:
  Stack stack(void* data) const { return {data, args_.dtype, 0, 0, 0, 0, 1}; }
  Stack out() const { return stack(args_.out); }

  // Handles two exposures, the usual number, without rows of scratch.
  template <class S>
  void join_two(int64_t first, int64_t pixels) const {
    const T part_a = static_cast<T>(args_.parts[0]), part_b = static_cast<T>(args_.parts[1]);
    const int64_t channels = args_.channels;
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t at = first + i * channels;
      const S* FASTMEF_RESTRICT a = static_cast<const S*>(args_.frames[0]) + at;
      const S* FASTMEF_RESTRICT b = static_cast<const S*>(args_.frames[1]) + at;
      S* FASTMEF_RESTRICT mean = static_cast<S*>(args_.out) + 2 * at;
      S* FASTMEF_RESTRICT largest = mean + channels;
      FASTMEF_VECTORIZE
      for (int64_t c = 0; c < channels; ++c) {
        const T u = to_number<T>(a[c]), v = to_number<T>(b[c]);
        from_number(part_a * u + part_b * v, mean[c]);
        from_number(larger_or_nan(v, u), largest[c]);
      }
    }
  }

  // Returns x if it is larger than y. As in torch.maximum, NaN is larger than any number.
  static T larger_or_nan(T x, T y) { return (x > y) | (x != x) ? x : y; }

  void add(int64_t k, int64_t first, int64_t pixels) {
    const int64_t n = pixels * args_.channels;
    const T* FASTMEF_RESTRICT in =
        dense_row(stack(const_cast<void*>(args_.frames[k])), first, n, value_);
    T* FASTMEF_RESTRICT sum = sum_;
    T* FASTMEF_RESTRICT largest = largest_;
    const T part = static_cast<T>(args_.parts[k]);
    if (k == 0) {
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) sum[i] = part * in[i], largest[i] = in[i];
      return;
    }
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) {
      sum[i] += part * in[i];
      largest[i] = larger_or_nan(in[i], largest[i]);
    }
  }

  const ContextArgs& args_;
  T *value_, *sum_, *largest_;
};

template <class T>
void context(const ContextArgs& args) {
  const int64_t pixels = block_pixels(args);
  run_blocks<ContextBlock<T>>(args, (args.pixels + pixels - 1) / pixels);
}

}  // namespace

namespace FASTMEF_ISA {

void exposure_context(const ContextArgs& args) {
  args.dtype == kFloat64 ? context<double>(args) : context<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include <vector>

#include "common/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `sizes` is (pixels, channels).
void exposure_context(const std::vector<int64_t>& frames, const std::vector<double>& parts,
                      const std::array<int64_t, 2>& sizes, int dtype, int64_t out, int threads) {
  std::vector<const void*> addresses;
  for (int64_t frame : frames) addresses.push_back(pointer(frame));
  const ContextArgs args{addresses.data(), parts.data(), static_cast<int64_t>(frames.size()),
                         sizes[0],         sizes[1],     static_cast<DType>(dtype),
                         pointer(out),     threads};
  const py::gil_scoped_release release;
  exposure_context_kernel(args);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("exposure_context", &exposure_context); }

}  // namespace fastmef

#endif
