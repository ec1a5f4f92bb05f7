#include "cuda/loss/loss.h"
#include "cuda/runtime/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// A call for all arrays of the same shapes, dtypes and strides. Converting these from Python takes
// longer than a launch, so it is done once.
class LossLaunch {
 public:
  // Only dtypes and strides of the stacks are read.
  LossLaunch(const Shape& shape, bool from_logits, const Stack& source, const Stack& exposures,
             const Stack& gradient, const std::array<float, kWindow>& taps, int attributes,
             bool luminance, double c1, double c2, double floor, double eps, double gradient_scale,
             const std::vector<double>& scales) {
    call_.batch = shape[0];
    call_.count = static_cast<int>(shape[1]);
    call_.height = shape[3];
    call_.width = shape[4];
    call_.from_logits = from_logits;
    call_.source = source;
    call_.exposures = exposures;
    call_.gradient = gradient;
    for (int i = 0; i < kWindow; ++i) call_.taps[i] = taps[i];
    call_.attributes = attributes;
    call_.luminance = luminance;
    call_.c1 = static_cast<float>(c1);
    call_.c2 = static_cast<float>(c2);
    call_.floor = static_cast<float>(floor);
    call_.eps = static_cast<float>(eps);
    call_.gradient_scale = static_cast<float>(gradient_scale);
    call_.levels = static_cast<int>(scales.size());
    for (size_t l = 0; l < scales.size() && l < kMostLevels; ++l) {
      call_.scales[l] = static_cast<float>(scales[l]);
    }
  }

  // The address of the gradient is 0 if it is not wanted.
  void run(const DeviceAndStreamTuple& on, int64_t source, int64_t exposures, int64_t gradient,
           int64_t workspace, int64_t value) const {
    LossCall call = call_;
    call.source.data = pointer(source);
    call.exposures.data = pointer(exposures);
    call.gradient.data = pointer(gradient);
    call.workspace = pointer(workspace);
    call.value = static_cast<float*>(pointer(value));
    const py::gil_scoped_release release;
    fusion_loss(call, device_and_stream(on));
  }

 private:
  LossCall call_{};
};

void scale(const DeviceAndStreamTuple& on, int64_t gradient, int dtype, int64_t size,
           int64_t grad_output, double divisor) {
  const py::gil_scoped_release release;
  scale_gradient(pointer(gradient), static_cast<DType>(dtype), size,
                 static_cast<const float*>(pointer(grad_output)), divisor, device_and_stream(on));
}

}  // namespace

FASTMEF_BINDING(m) {
  m.def("loss_workspace", &loss_workspace);
  py::class_<LossLaunch>(m, "LossLaunch")
      .def(py::init<const Shape&, bool, const Stack&, const Stack&, const Stack&,
                    const std::array<float, kWindow>&, int, bool, double, double, double, double,
                    double, const std::vector<double>&>())
      .def("__call__", &LossLaunch::run);
  m.def("scale_gradient", &scale);
}

}  // namespace fastmef
