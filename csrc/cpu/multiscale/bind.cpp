#include <vector>

#include "common/binding.h"
#include "cpu/multiscale/multiscale.h"
#include "cpu/runtime/large_pages.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// (B, K, C, H, W), and the rows [begin, end) of the result to compute.
using Shape = std::array<int64_t, 5>;
using Rows = std::pair<int64_t, int64_t>;

void pyramid_reduce(bool in_double, const Shape& shape, const Rows& rows, const Stack& fine,
                    const Stack& validity, const Stack& coarse, const Stack& coarse_validity,
                    int threads) {
  ReduceArgs args{};
  args.batch = shape[0];
  args.count = shape[1];
  args.channels = shape[2];
  args.height = shape[3];
  args.width = shape[4];
  args.row_begin = rows.first;
  args.row_end = rows.second;
  args.fine = fine;
  args.validity = validity;
  args.coarse = coarse;
  args.coarse_validity = coarse_validity;
  args.threads = threads;
  const py::gil_scoped_release release;
  const int64_t pixels = ((shape[3] + 1) / 2) * ((shape[4] + 1) / 2);
  prefer_large_pages(args.coarse, shape[0] * shape[1] * shape[2] * pixels);
  pyramid_reduce_kernel(args, in_double);
}

void blend_band(bool in_double, const Shape& shape, const Rows& rows, const Stack& fine,
                const std::vector<uintptr_t>& layers, const Stack& coarse,
                const Stack& fused_coarse, const Stack& shares, const Stack& validity,
                const Stack& coarse_validity, int radius, double floor, double contrast,
                bool same_size, bool finest, double low, double high, const Stack& fused,
                const Stack& slope, int threads) {
  BandArgs args{};
  args.batch = shape[0];
  args.count = shape[1];
  args.channels = shape[2];
  args.height = shape[3];
  args.width = shape[4];
  args.row_begin = rows.first;
  args.row_end = rows.second;
  args.fine = fine;
  std::vector<const void*> addresses;
  for (const uintptr_t address : layers) addresses.push_back(reinterpret_cast<void*>(address));
  args.layers = addresses.empty() ? nullptr : addresses.data();
  args.coarse = coarse;
  args.fused_coarse = fused_coarse;
  args.shares = shares;
  args.validity = validity;
  args.coarse_validity = coarse_validity;
  args.radius = radius;
  args.floor = floor;
  args.contrast = contrast;
  args.same_size = same_size;
  args.finest = finest;
  args.low = low;
  args.high = high;
  args.fused = fused;
  args.slope = slope;
  args.threads = threads;
  const py::gil_scoped_release release;
  const int64_t values = shape[0] * shape[2] * shape[3] * shape[4];
  prefer_large_pages(args.fused, values);
  prefer_large_pages(args.slope, values);
  blend_band_kernel(args, in_double);
}

// `shape` is (B, C, H, W).
void blend_band_backward(bool in_double, const std::array<int64_t, 4>& shape, const Stack& grad,
                         const Stack& slope, const Stack& grad_coarse, int threads) {
  BandBackwardArgs args{};
  args.batch = shape[0];
  args.channels = shape[1];
  args.height = shape[2];
  args.width = shape[3];
  args.grad = grad;
  args.slope = slope;
  args.grad_coarse = grad_coarse;
  args.threads = threads;
  const py::gil_scoped_release release;
  blend_band_backward_kernel(args, in_double);
}

}  // namespace

FASTMEF_BINDING(m) {
  m.def("pyramid_reduce", &pyramid_reduce);
  m.def("blend_band", &blend_band);
  m.def("blend_band_backward", &blend_band_backward);
}

}  // namespace fastmef
