#include "common/binding.h"
#include "cpu/runtime/large_pages.h"
#include "cpu/ssim/ssim.h"
#include "cpu/window/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `shape` is (N, H, W). Returns the sum of the map if the map itself is not written.
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

void bind_ssim(py::module_& m) { m.def("ssim", &ssim); }

}  // namespace fastmef
