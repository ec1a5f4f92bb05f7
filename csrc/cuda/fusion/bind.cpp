#include "cuda/fusion/softmax_fuse.h"
#include "cuda/runtime/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

FuseArgs fuse_args(const Shape& shape, double temperature, const Stack& logits, const Stack& valid,
                   const Stack& exposures) {
  FuseArgs args{};
  args.batch = shape[0];
  args.count = static_cast<int>(shape[1]);
  args.channels = shape[2];
  args.height = shape[3];
  args.width = shape[4];
  args.inverse_temperature = static_cast<float>(1.0 / temperature);
  args.logits = logits;
  args.valid = valid;
  args.exposures = exposures;
  return args;
}

void fuse(const DeviceAndStreamTuple& on, const Shape& shape, double temperature,
          const Stack& logits, const Stack& valid, const Stack& exposures, const Stack& fused,
          const Stack& weights) {
  FuseArgs args = fuse_args(shape, temperature, logits, valid, exposures);
  args.fused = fused;
  args.weights = weights;
  const py::gil_scoped_release release;
  softmax_fuse(args, device_and_stream(on));
}

void fuse_backward(const DeviceAndStreamTuple& on, const Shape& shape, double temperature,
                   const Stack& logits, const Stack& valid, const Stack& exposures,
                   const Stack& grad_fused, const Stack& grad_weights, const Stack& grad_logits,
                   const Stack& grad_exposures) {
  FuseArgs args = fuse_args(shape, temperature, logits, valid, exposures);
  args.grad_fused = grad_fused;
  args.grad_weights = grad_weights;
  args.grad_logits = grad_logits;
  args.grad_exposures = grad_exposures;
  const py::gil_scoped_release release;
  softmax_fuse_backward(args, device_and_stream(on));
}

}  // namespace

FASTMEF_BINDING(m) {
  m.def("softmax_fuse", &fuse);
  m.def("softmax_fuse_backward", &fuse_backward);
}

}  // namespace fastmef
