// fastmef._cpu: the binding. Each operation's folder has its own part of it, bind.cpp.

#include <pybind11/pybind11.h>

namespace fastmef {

void bind_runtime(pybind11::module_& m);
void bind_filters(pybind11::module_& m);
void bind_fusion(pybind11::module_& m);
void bind_loss(pybind11::module_& m);
void bind_mef_ssim(pybind11::module_& m);
void bind_multiscale(pybind11::module_& m);
void bind_ssim(pybind11::module_& m);

}  // namespace fastmef

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "C++ kernels for the CPU. Internal: arguments are addresses and are not checked here.";
  fastmef::bind_runtime(m);
  fastmef::bind_filters(m);
  fastmef::bind_fusion(m);
  fastmef::bind_loss(m);
  fastmef::bind_mef_ssim(m);
  fastmef::bind_multiscale(m);
  fastmef::bind_ssim(m);
}
