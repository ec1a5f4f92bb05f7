#include "cpu/multiscale/bind.h"

#include <pybind11/stl.h>

#include <array>
#include <utility>

#include "common/arguments.h"
#include "cpu/multiscale/multiscale.h"
#include "cpu/runtime/isa.h"
#include "cpu/runtime/large_pages.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// (B, K, C, H, W), and the rows of the result to make.
using Shape = std::array<int64_t, 5>;
using Rows = std::pair<int64_t, int64_t>;

void pyramid_reduce(bool in_double, const Shape& shape, const Rows& rows, const StackTuple& fine,
                    const StackTuple& validity, const StackTuple& coarse,
                    const StackTuple& coarse_validity, int threads) {
  ReduceArgs args{};
  args.batch = shape[0];
  args.count = shape[1];
  args.channels = shape[2];
  args.height = shape[3];
  args.width = shape[4];
  args.row_begin = rows.first;
  args.row_end = rows.second;
  args.fine = stack(fine);
  args.validity = stack(validity);
  args.coarse = stack(coarse);
  args.coarse_validity = stack(coarse_validity);
  args.threads = threads;
  const py::gil_scoped_release release;
  const int64_t pixels = ((shape[3] + 1) / 2) * ((shape[4] + 1) / 2);
  prefer_large_pages(args.coarse, shape[0] * shape[1] * shape[2] * pixels);
  active().pyramid_reduce(args, in_double);
}

void blend_band(bool in_double, const Shape& shape, const Rows& rows, const StackTuple& fine,
                const StackTuple& coarse, const StackTuple& fused_coarse, const StackTuple& shares,
                const StackTuple& validity, const StackTuple& coarse_validity, int radius,
                double floor, double contrast, bool finest, double low, double high,
                const StackTuple& fused, const StackTuple& slope, int threads) {
  BandArgs args{};
  args.batch = shape[0];
  args.count = shape[1];
  args.channels = shape[2];
  args.height = shape[3];
  args.width = shape[4];
  args.row_begin = rows.first;
  args.row_end = rows.second;
  args.fine = stack(fine);
  args.coarse = stack(coarse);
  args.fused_coarse = stack(fused_coarse);
  args.shares = stack(shares);
  args.validity = stack(validity);
  args.coarse_validity = stack(coarse_validity);
  args.radius = radius;
  args.floor = floor;
  args.contrast = contrast;
  args.finest = finest;
  args.low = low;
  args.high = high;
  args.fused = stack(fused);
  args.slope = stack(slope);
  args.threads = threads;
  const py::gil_scoped_release release;
  const int64_t values = shape[0] * shape[2] * shape[3] * shape[4];
  prefer_large_pages(args.fused, values);
  prefer_large_pages(args.slope, values);
  active().blend_band(args, in_double);
}

// Shape (B, C, H, W).
void blend_band_backward(bool in_double, const std::array<int64_t, 4>& shape,
                         const StackTuple& grad, const StackTuple& slope,
                         const StackTuple& grad_coarse, int threads) {
  BandBackwardArgs args{};
  args.batch = shape[0];
  args.channels = shape[1];
  args.height = shape[2];
  args.width = shape[3];
  args.grad = stack(grad);
  args.slope = stack(slope);
  args.grad_coarse = stack(grad_coarse);
  args.threads = threads;
  const py::gil_scoped_release release;
  active().blend_band_backward(args, in_double);
}

}  // namespace

void bind_blend(py::module_& m) {
  m.def("pyramid_reduce", &pyramid_reduce, py::arg("in_double"), py::arg("shape"), py::arg("rows"),
        py::arg("fine"), py::arg("validity"), py::arg("coarse"), py::arg("coarse_validity"),
        py::arg("threads"));
  m.def("blend_band", &blend_band, py::arg("in_double"), py::arg("shape"), py::arg("rows"),
        py::arg("fine"), py::arg("coarse"), py::arg("fused_coarse"), py::arg("shares"),
        py::arg("validity"), py::arg("coarse_validity"), py::arg("radius"), py::arg("floor"),
        py::arg("contrast"), py::arg("finest"), py::arg("low"), py::arg("high"), py::arg("fused"),
        py::arg("slope"), py::arg("threads"));
  m.def("blend_band_backward", &blend_band_backward, py::arg("in_double"), py::arg("shape"),
        py::arg("grad"), py::arg("slope"), py::arg("grad_coarse"), py::arg("threads"));
}

}  // namespace fastmef
