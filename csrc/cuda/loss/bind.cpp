#include "cuda/loss/loss.h"
#include "cuda/runtime/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

void loss(const DeviceAndStreamTuple& on, const Shape& shape, bool from_logits, const Stack& source,
          const Stack& exposures, const Stack& gradient, int64_t partials, int64_t value,
          const std::array<float, kWindow>& taps, int attributes, bool luminance, double c1,
          double c2, double floor, double eps, double gradient_scale) {
  LossArgs args{};
  args.batch = shape[0];
  args.count = static_cast<int>(shape[1]);
  args.height = shape[3];
  args.width = shape[4];
  args.from_logits = from_logits;
  args.source = source;
  args.exposures = exposures;
  args.gradient = gradient;
  args.partials = static_cast<double*>(pointer(partials));
  args.value = static_cast<float*>(pointer(value));
  for (int i = 0; i < kWindow; ++i) args.taps[i] = taps[i];
  args.attributes = attributes;
  args.luminance = luminance;
  args.c1 = static_cast<float>(c1);
  args.c2 = static_cast<float>(c2);
  args.floor = static_cast<float>(floor);
  args.eps = static_cast<float>(eps);
  args.gradient_scale = static_cast<float>(gradient_scale);
  const py::gil_scoped_release release;
  fusion_loss(args, device_and_stream(on));
}

}  // namespace

FASTMEF_BINDING(m) {
  m.def("loss_blocks", &loss_blocks);
  m.def("fusion_loss", &loss);
}

}  // namespace fastmef
