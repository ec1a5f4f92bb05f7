#include "common/binding.h"
#include "cpu/fusion/softmax_fuse.h"
#include "cpu/runtime/large_pages.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// (B, K, C, H, W)
using Shape = std::array<int64_t, 5>;

FuseArgs fuse_args(const Shape& shape, double temperature, const Stack& logits, const Stack& valid,
                   const Stack& exposures, int threads) {
  FuseArgs args{};
  args.batch = shape[0];
  args.exposures_count = shape[1];
  args.channels = shape[2];
  args.height = shape[3];
  args.width = shape[4];
  args.temperature = temperature;
  args.logits = logits;
  args.valid = valid;
  args.exposures = exposures;
  args.threads = threads;
  return args;
}

void softmax_fuse(bool in_double, const Shape& shape, double temperature, const Stack& logits,
                  const Stack& valid, const Stack& exposures, const Stack& fused,
                  const Stack& weights, int threads) {
  FuseArgs args = fuse_args(shape, temperature, logits, valid, exposures, threads);
  args.fused = fused;
  args.weights = weights;
  const py::gil_scoped_release release;
  const int64_t pixels = args.batch * args.height * args.width;
  prefer_large_pages(fused, pixels * args.channels);
  prefer_large_pages(weights, pixels * args.exposures_count);
  softmax_fuse_kernel(args, false, in_double);
}

void softmax_fuse_backward(bool in_double, const Shape& shape, double temperature,
                           const Stack& logits, const Stack& valid, const Stack& exposures,
                           const Stack& grad_fused, const Stack& grad_weights,
                           const Stack& grad_logits, const Stack& grad_exposures, int threads) {
  FuseArgs args = fuse_args(shape, temperature, logits, valid, exposures, threads);
  args.grad_fused = grad_fused;
  args.grad_weights = grad_weights;
  args.grad_logits = grad_logits;
  args.grad_exposures = grad_exposures;
  const py::gil_scoped_release release;
  const int64_t pixels = args.batch * args.height * args.width;
  prefer_large_pages(grad_logits, pixels * args.exposures_count);
  prefer_large_pages(grad_exposures, pixels * args.exposures_count * args.channels);
  softmax_fuse_kernel(args, true, in_double);
}

}  // namespace

FASTMEF_BINDING(m) {
  m.def("softmax_fuse", &softmax_fuse);
  m.def("softmax_fuse_backward", &softmax_fuse_backward);
}

}  // namespace fastmef
