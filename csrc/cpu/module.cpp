// fastmef._cpu: the binding. Arrays arrive as addresses and strides, so that nothing of PyTorch is
// needed to build it and one build serves every version. Python has validated shapes and types.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/arguments.h"
#include "cpu/mef_ssim/bind.h"
#include "cpu/multiscale/bind.h"
#include "cpu/runtime/isa.h"
#include "cpu/runtime/large_pages.h"
#include "cpu/runtime/parallel.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// Levels: (height, width, taps_y, taps_x, share).
using LevelTuple = std::tuple<int64_t, int64_t, std::vector<double>, std::vector<double>, double>;

double weighted_ssim_loss(bool in_double, int64_t batch, int64_t count,
                          const std::vector<LevelTuple>& levels, const StackTuple& fused,
                          const StackTuple& logits, const StackTuple& exposures,
                          const StackTuple& weight, bool weight_is_mask, int attributes,
                          bool luminance, double c1, double c2, double floor, double eps,
                          const StackTuple& gradient, double gradient_scale, const StackTuple& map,
                          int threads) {
  std::vector<Level> rows;
  for (const auto& [height, width, taps_y, taps_x, share] : levels) {
    rows.push_back({height, width, static_cast<int>(taps_y.size()), static_cast<int>(taps_x.size()),
                    taps_y.data(), taps_x.data(), share});
  }
  LossArgs args{};
  args.batch = batch;
  args.exposures_count = count;
  args.level_count = static_cast<int>(rows.size());
  args.levels = rows.data();
  args.fused = stack(fused);
  args.logits = stack(logits);
  args.exposures = stack(exposures);
  args.weight = stack(weight);
  args.weight_is_mask = weight_is_mask;
  args.attributes = attributes;
  args.luminance = luminance;
  args.c1 = c1;
  args.c2 = c2;
  args.floor = floor;
  args.eps = eps;
  args.gradient = stack(gradient);
  args.gradient_scale = gradient_scale;
  args.map = stack(map);
  args.threads = threads;
  const py::gil_scoped_release release;
  if (!rows.empty()) {
    const int64_t pixels = batch * rows[0].height * rows[0].width;
    prefer_large_pages(args.gradient, pixels * (args.logits.data ? count : 1));
  }
  return active().weighted_ssim_loss(args, in_double);
}

// (B, K, C, H, W)
using Shape = std::array<int64_t, 5>;

FuseArgs fuse_args(const Shape& shape, double temperature, const StackTuple& logits,
                   const StackTuple& valid, const StackTuple& exposures, int threads) {
  FuseArgs args{};
  args.batch = shape[0];
  args.exposures_count = shape[1];
  args.channels = shape[2];
  args.height = shape[3];
  args.width = shape[4];
  args.temperature = temperature;
  args.logits = stack(logits);
  args.valid = stack(valid);
  args.exposures = stack(exposures);
  args.threads = threads;
  return args;
}

void softmax_fuse(bool in_double, const Shape& shape, double temperature, const StackTuple& logits,
                  const StackTuple& valid, const StackTuple& exposures, const StackTuple& fused,
                  const StackTuple& weights, int threads) {
  FuseArgs args = fuse_args(shape, temperature, logits, valid, exposures, threads);
  args.fused = stack(fused);
  args.weights = stack(weights);
  const py::gil_scoped_release release;
  const int64_t pixels = args.batch * args.height * args.width;
  prefer_large_pages(args.fused, pixels * args.channels);
  prefer_large_pages(args.weights, pixels * args.exposures_count);
  active().softmax_fuse(args, false, in_double);
}

void softmax_fuse_backward(bool in_double, const Shape& shape, double temperature,
                           const StackTuple& logits, const StackTuple& valid,
                           const StackTuple& exposures, const StackTuple& by_fused,
                           const StackTuple& by_weights, const StackTuple& by_logits,
                           const StackTuple& by_exposures, int threads) {
  FuseArgs args = fuse_args(shape, temperature, logits, valid, exposures, threads);
  args.by_fused = stack(by_fused);
  args.by_weights = stack(by_weights);
  args.by_logits = stack(by_logits);
  args.by_exposures = stack(by_exposures);
  const py::gil_scoped_release release;
  const int64_t pixels = args.batch * args.height * args.width;
  prefer_large_pages(args.by_logits, pixels * args.exposures_count);
  prefer_large_pages(args.by_exposures, pixels * args.exposures_count * args.channels);
  active().softmax_fuse(args, true, in_double);
}

using Taps = std::vector<double>;

Axis axis(int64_t size, const Taps& taps, int border) {
  return {size, static_cast<int>(taps.size()), static_cast<Border>(border)};
}

// Shape (B, K, H, W).
void filters(bool in_double, const std::array<int64_t, 4>& shape, const Taps& taps_y,
             const Taps& taps_x, int border, int attributes, bool normalise, double floor,
             double eps, const StackTuple& images, const StackTuple& values,
             const StackTuple& upstream, const StackTuple& gradient, int threads) {
  FilterArgs args{};
  args.batch = shape[0];
  args.count = static_cast<int>(shape[1]);
  args.y = axis(shape[2], taps_y, border);
  args.x = axis(shape[3], taps_x, border);
  args.taps_y = taps_y.data();
  args.taps_x = taps_x.data();
  args.attributes = attributes;
  args.normalise = normalise;
  args.floor = floor;
  args.eps = eps;
  args.images = stack(images);
  args.values = stack(values);
  args.upstream = stack(upstream);
  args.gradient = stack(gradient);
  args.threads = threads;
  const py::gil_scoped_release release;
  prefer_large_pages(args.gradient, shape[0] * shape[1] * shape[2] * shape[3]);
  active().filters(args, in_double);
}

// Shape (N, H, W). Returns the sum of the map if the map itself is not written.
double ssim(bool in_double, const std::array<int64_t, 3>& shape, const Taps& taps_y,
            const Taps& taps_x, int border, bool luminance, double c1, double c2,
            const StackTuple& a, const StackTuple& b, const StackTuple& values,
            const StackTuple& upstream, double weight, const StackTuple& by_a,
            const StackTuple& by_b, int threads) {
  SsimArgs args{};
  args.batch = shape[0];
  args.y = axis(shape[1], taps_y, border);
  args.x = axis(shape[2], taps_x, border);
  args.taps_y = taps_y.data();
  args.taps_x = taps_x.data();
  args.luminance = luminance;
  args.c1 = c1;
  args.c2 = c2;
  args.a = stack(a);
  args.b = stack(b);
  args.values = stack(values);
  args.upstream = stack(upstream);
  args.weight = weight;
  args.by_a = stack(by_a);
  args.by_b = stack(by_b);
  args.threads = threads;
  const py::gil_scoped_release release;
  prefer_large_pages(args.by_a, shape[0] * shape[1] * shape[2]);
  prefer_large_pages(args.by_b, shape[0] * shape[1] * shape[2]);
  return active().ssim(args, in_double);
}

}  // namespace
}  // namespace fastmef

PYBIND11_MODULE(_cpu, m) {
  using namespace fastmef;
  m.doc() = "C++ kernels for the CPU. Internal: arguments are addresses and are not checked here.";
  m.def("available_isas", &available_isas, "Instruction sets usable here, the best first.");
  m.def("active_isa", [] { return std::string(active().name); });
  m.def("use_isa", &use_isa, py::arg("name"));
  m.def("thread_source", &thread_source);
  m.def("use_own_threads", &use_own_threads, py::arg("own"));
  m.def("weighted_ssim_loss", &weighted_ssim_loss, py::arg("in_double"), py::arg("batch"),
        py::arg("count"), py::arg("levels"), py::arg("fused"), py::arg("logits"),
        py::arg("exposures"), py::arg("weight"), py::arg("weight_is_mask"), py::arg("attributes"),
        py::arg("luminance"), py::arg("c1"), py::arg("c2"), py::arg("floor"), py::arg("eps"),
        py::arg("gradient"), py::arg("gradient_scale"), py::arg("map"), py::arg("threads"));
  m.def("filters", &filters, py::arg("in_double"), py::arg("shape"), py::arg("taps_y"),
        py::arg("taps_x"), py::arg("border"), py::arg("attributes"), py::arg("normalise"),
        py::arg("floor"), py::arg("eps"), py::arg("images"), py::arg("values"), py::arg("upstream"),
        py::arg("gradient"), py::arg("threads"));
  m.def("ssim", &ssim, py::arg("in_double"), py::arg("shape"), py::arg("taps_y"), py::arg("taps_x"),
        py::arg("border"), py::arg("luminance"), py::arg("c1"), py::arg("c2"), py::arg("a"),
        py::arg("b"), py::arg("values"), py::arg("upstream"), py::arg("weight"), py::arg("by_a"),
        py::arg("by_b"), py::arg("threads"));
  m.def("softmax_fuse", &softmax_fuse, py::arg("in_double"), py::arg("shape"),
        py::arg("temperature"), py::arg("logits"), py::arg("valid"), py::arg("exposures"),
        py::arg("fused"), py::arg("weights"), py::arg("threads"));
  m.def("softmax_fuse_backward", &softmax_fuse_backward, py::arg("in_double"), py::arg("shape"),
        py::arg("temperature"), py::arg("logits"), py::arg("valid"), py::arg("exposures"),
        py::arg("by_fused"), py::arg("by_weights"), py::arg("by_logits"), py::arg("by_exposures"),
        py::arg("threads"));
  bind_blend(m);
  bind_mef(m);
}
