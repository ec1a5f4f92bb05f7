// The module that Python imports. Every operation binds its functions in its own folder.

#include "common/binding.h"

PYBIND11_MODULE(FASTMEF_MODULE, m) {
  m.doc() = "Compiled kernels. Internal: arguments are addresses and are hardly checked here.";
#ifdef FASTMEF_CUDA_BUILT_FOR
  m.attr("architectures") = FASTMEF_CUDA_BUILT_FOR;
#endif
  fastmef::Binding::bind_all(m);
}
