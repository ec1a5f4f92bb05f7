#include <utility>

#include "common/binding.h"
#include "cpu/mef_ssim/mef_ssim.h"
#include "cpu/window/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// Contiguous arrays are passed as addresses, 0 for an absent one; `in_double` gives their type.
template <size_t N>
using Addresses = std::array<int64_t, N>;

// The sizes (B, K, H, W) and the window taps.
struct Shape {
  std::array<int64_t, 4> sizes;
  TapList taps_y, taps_x;
  int threads;

  MefShape with(Border border) const {
    return {sizes[0],
            sizes[1],
            {sizes[2], static_cast<int>(taps_y.size()), border},
            {sizes[3], static_cast<int>(taps_x.size()), border},
            taps_y.data(),
            taps_x.data(),
            threads};
  }
};

Ma2015Maps ma2015_maps(const Addresses<4>& a) {
  return {pointer(a[0]), pointer(a[1]), pointer(a[2]), pointer(a[3])};
}

ReferenceMaps reference_maps(const Addresses<5>& a) {
  return {pointer(a[0]), static_cast<int64_t*>(pointer(a[1])), pointer(a[2]), pointer(a[3]),
          pointer(a[4])};
}

// The addresses are those of fused, structure, luminance, and the gradients of the last two.
MefScore mef_score(const Addresses<5>& a, double c1, double c2) {
  return {pointer(a[0]), pointer(a[1]), pointer(a[2]), pointer(a[3]), pointer(a[4]), c1, c2};
}

void ma2015_level(bool in_double, const Shape& shape, int64_t images, const Addresses<4>& maps) {
  const py::gil_scoped_release release;
  ma2015_level_kernel(shape.with(kValid), pointer(images), ma2015_maps(maps), in_double);
}

void ma2015_quality(bool in_double, const Shape& shape, const Addresses<4>& maps, double unit,
                    const Addresses<5>& score, double c) {
  const py::gil_scoped_release release;
  ma2015_quality_kernel(shape.with(kValid), ma2015_maps(maps), unit, mef_score(score, 0.0, c),
                        in_double);
}

void halve(bool in_double, const std::array<int64_t, 3>& sizes, int64_t images, int64_t out,
           int threads) {
  const py::gil_scoped_release release;
  halve_kernel({sizes[0], sizes[1], sizes[2], pointer(images), pointer(out), threads}, in_double);
}

void mefnet_sources(bool in_double, const Shape& shape, const Addresses<5>& maps) {
  const py::gil_scoped_release release;
  mefnet_sources_kernel(shape.with(kZero), reference_maps(maps), in_double);
}

void mefnet_factors(bool in_double, const Shape& shape, const Addresses<5>& maps,
                    const Addresses<5>& score, double c1, double c2) {
  const py::gil_scoped_release release;
  mefnet_factors_kernel(shape.with(kZero), reference_maps(maps), mef_score(score, c1, c2),
                        in_double);
}

void color2018_sources(bool in_double, const Shape& shape, const Addresses<5>& maps) {
  const py::gil_scoped_release release;
  color2018_sources_kernel(shape.with(kValid), reference_maps(maps), in_double);
}

void color2018_score(bool in_double, const Shape& shape, const Addresses<5>& maps,
                     const Addresses<5>& score, double c1, double c2) {
  const py::gil_scoped_release release;
  color2018_score_kernel(shape.with(kValid), reference_maps(maps), mef_score(score, c1, c2),
                         in_double);
}

}  // namespace

FASTMEF_BINDING(m) {
  py::class_<Shape>(m, "MefShape")
      .def(py::init(
          [](const std::array<int64_t, 4>& sizes, TapList taps_y, TapList taps_x, int threads) {
            return Shape{sizes, std::move(taps_y), std::move(taps_x), threads};
          }));
  m.def("ma2015_level", &ma2015_level);
  m.def("ma2015_quality", &ma2015_quality);
  m.def("halve", &halve);
  m.def("mefnet_sources", &mefnet_sources);
  m.def("mefnet_factors", &mefnet_factors);
  m.def("color2018_sources", &color2018_sources);
  m.def("color2018_score", &color2018_score);
}

}  // namespace fastmef
