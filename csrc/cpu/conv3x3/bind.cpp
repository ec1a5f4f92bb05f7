#include "common/binding.h"
#include "cpu/conv3x3/conv3x3.h"
#include "cpu/runtime/large_pages.h"

namespace fastmef {
namespace {

// The kernels need vectors of GCC or Clang.
#if defined(__GNUC__)

Conv3x3Args arguments(const std::array<int64_t, 5>& shape, int64_t padding, const Stack& input,
                      const Stack& weight, const Stack& output, bool mirrored, int threads) {
  const auto [batch, height, width, in_channels, out_channels] = shape;
  return {batch, height, width,  in_channels, out_channels, padding,
          input, weight, output, mirrored,    threads};
}

void convolve(const std::array<int64_t, 5>& shape, int64_t padding, const Stack& input,
              const Stack& weight, const Stack& output, bool mirrored, int threads) {
  const auto args = arguments(shape, padding, input, weight, output, mirrored, threads);
  const pybind11::gil_scoped_release release;
  const int64_t size = 2 * padding - 2;
  prefer_large_pages(output,
                     args.batch * (args.height + size) * (args.width + size) * args.out_channels);
  conv3x3_kernel(args);
}

void weight_gradient(const std::array<int64_t, 5>& shape, int64_t padding, const Stack& input,
                     const Stack& weight, const Stack& output, int threads) {
  const auto args = arguments(shape, padding, input, weight, output, false, threads);
  const pybind11::gil_scoped_release release;
  conv3x3_weight_gradient_kernel(args);
}

#endif

}  // namespace

#if defined(__GNUC__)
FASTMEF_BINDING(m) {
  m.def("conv3x3", &convolve);
  m.def("conv3x3_weight_gradient", &weight_gradient);
}
#endif

}  // namespace fastmef
