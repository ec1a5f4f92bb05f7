// fastmef._cuda: the binding. Arrays arrive as addresses and strides, device and stream as numbers,
// so that nothing of PyTorch is needed to build it. Python has validated shapes and types.

#include "common/binding.h"
#include "cuda/fusion/softmax_fuse.h"
#include "cuda/guided/guided.h"
#include "cuda/loss/loss.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// (device, stream)
using DeviceAndStreamTuple = std::array<int64_t, 2>;

DeviceAndStream device_and_stream(const DeviceAndStreamTuple& t) {
  return {static_cast<int>(t[0]), reinterpret_cast<cudaStream_t>(pointer(t[1]))};
}

// (B, K, C, H, W)
using Shape = std::array<int64_t, 5>;

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

void loss(const DeviceAndStreamTuple& on, const Shape& shape, bool from_logits, const Stack& source,
          const Stack& exposures, const Stack& gradient, int64_t workspace, int64_t value,
          const std::array<float, kWindow>& taps, int attributes, bool luminance, double c1,
          double c2, double floor, double eps, double gradient_scale,
          const std::vector<double>& scales) {
  LossCall call{};
  call.batch = shape[0];
  call.count = static_cast<int>(shape[1]);
  call.height = shape[3];
  call.width = shape[4];
  call.from_logits = from_logits;
  call.source = source;
  call.exposures = exposures;
  call.gradient = gradient;
  call.workspace = pointer(workspace);
  call.value = static_cast<float*>(pointer(value));
  for (int i = 0; i < kWindow; ++i) call.taps[i] = taps[i];
  call.attributes = attributes;
  call.luminance = luminance;
  call.c1 = static_cast<float>(c1);
  call.c2 = static_cast<float>(c2);
  call.floor = static_cast<float>(floor);
  call.eps = static_cast<float>(eps);
  call.gradient_scale = static_cast<float>(gradient_scale);
  call.levels = static_cast<int>(scales.size());
  for (size_t l = 0; l < scales.size() && l < kMostLevels; ++l) {
    call.scales[l] = static_cast<float>(scales[l]);
  }
  const py::gil_scoped_release release;
  fusion_loss(call, device_and_stream(on));
}

void scale(const DeviceAndStreamTuple& on, int64_t gradient, int dtype, int64_t size,
           int64_t grad_output, double divisor) {
  const py::gil_scoped_release release;
  scale_gradient(pointer(gradient), static_cast<DType>(dtype), size,
                 static_cast<const float*>(pointer(grad_output)), divisor, device_and_stream(on));
}

GuidedArgs guided_args(const Shape& shape, int64_t rows, int64_t columns,
                       const std::array<float, 3>& gray, const Stack& exposures) {
  GuidedArgs args{};
  args.batch = shape[0];
  args.count = static_cast<int>(shape[1]);
  args.height = shape[3];
  args.width = shape[4];
  args.rows = rows;
  args.columns = columns;
  for (int c = 0; c < 3; ++c) args.gray[c] = gray[c];
  args.exposures = exposures;
  return args;
}

void guide(const DeviceAndStreamTuple& on, const Shape& shape, int64_t rows, int64_t columns,
           const std::array<float, 3>& gray, const Stack& exposures, int64_t to) {
  GuidedArgs args = guided_args(shape, rows, columns, gray, exposures);
  args.guide = static_cast<float*>(pointer(to));
  const py::gil_scoped_release release;
  guided_guide(args, device_and_stream(on));
}

void fuse_by_guide(const DeviceAndStreamTuple& on, const Shape& shape, int64_t rows,
                   int64_t columns, const std::array<float, 3>& gray, const Stack& exposures,
                   int64_t slopes, int64_t offsets, const Stack& fused) {
  GuidedArgs args = guided_args(shape, rows, columns, gray, exposures);
  args.slopes = static_cast<const float*>(pointer(slopes));
  args.offsets = static_cast<const float*>(pointer(offsets));
  args.fused = fused;
  args.fused.layer = 0;  // there is one: its stride says nothing
  const py::gil_scoped_release release;
  guided_fuse(args, device_and_stream(on));
}

}  // namespace
}  // namespace fastmef

PYBIND11_MODULE(FASTMEF_MODULE, m) {
  using namespace fastmef;
  m.doc() = "CUDA kernels. Internal: arguments are addresses and are hardly checked here.";
  m.attr("architectures") = FASTMEF_CUDA_BUILT_FOR;
  m.def("softmax_fuse", &fuse);
  m.def("softmax_fuse_backward", &fuse_backward);
  m.def("loss_workspace", &loss_workspace);
  m.def("fusion_loss", &loss);
  m.def("scale_gradient", &scale);
  m.def("guided_guide", &guide);
  m.def("guided_fuse", &fuse_by_guide);
}
