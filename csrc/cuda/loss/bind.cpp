#include "cuda/loss/loss.h"
#include "cuda/runtime/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

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

}  // namespace

FASTMEF_BINDING(m) {
  m.def("loss_workspace", &loss_workspace);
  m.def("fusion_loss", &loss);
  m.def("scale_gradient", &scale);
}

}  // namespace fastmef
