#include "common/binding.h"
#include "cpu/filters/filters.h"
#include "cpu/runtime/large_pages.h"
#include "cpu/window/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `shape` is (B, K, H, W).
void filters(bool in_double, const std::array<int64_t, 4>& shape, const TapList& taps_y,
             const TapList& taps_x, int border, int attributes, bool normalise, double floor,
             double eps, const Stack& images, const Stack& values, const Stack& grad_output,
             const Stack& grad_images, int threads) {
  const FilterArgs args{shape[0],
                        static_cast<int>(shape[1]),
                        make_axis(shape[2], taps_y, border),
                        make_axis(shape[3], taps_x, border),
                        taps_y.data(),
                        taps_x.data(),
                        attributes,
                        normalise,
                        floor,
                        eps,
                        images,
                        values,
                        grad_output,
                        grad_images,
                        threads};
  const py::gil_scoped_release release;
  prefer_large_pages(grad_images, shape[0] * shape[1] * shape[2] * shape[3]);
  filters_kernel(args, in_double);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("filters", &filters); }

}  // namespace fastmef
