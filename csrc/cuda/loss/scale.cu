// gradient *= grad_output / divisor, in place. If the factor is 1, the gradient is neither read nor
// written.

#include "cuda/loss/loss.h"
#include "cuda/runtime/runs.h"
#include "cuda/runtime/storage.h"

namespace fastmef {
namespace {

struct ScaleArgs {
  void* gradient;
  const float* grad_output;
  float divisor;
  int64_t size;
};

template <class S>
__global__ void __launch_bounds__(kThreads) scale_kernel(const ScaleArgs a) {
  constexpr int V = 16 / sizeof(S);
  const float factor = *a.grad_output / a.divisor;
  if (factor == 1.0f) return;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  S* const at = static_cast<S*>(a.gradient) + first;
  if (first + V <= a.size) {
    float values[V];
    load_run(at, values);
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] *= factor;
    store_run(values, at);
  } else {
    for (int v = 0; first + v < a.size; ++v) {
      float value[1];
      load_run(at + v, value);
      value[0] *= factor;
      store_run(value, at + v);
    }
  }
}

}  // namespace

void scale_gradient(void* gradient, DType dtype, int64_t size, const float* grad_output,
                    double divisor, const DeviceAndStream& on) {
  const char* name = "scale_gradient";
  check_sizes(name, {1, 1, 1, 1, size});
  if (reinterpret_cast<uintptr_t>(gradient) % 16) {
    refuse(name, "the address of gradient must be a multiple of 16");
  }
  Arrays arrays(name);
  arrays.read("grad_output", dense(grad_output, kFloat32), {1, 1, 1, 1, 1});
  arrays.written("gradient", dense(gradient, dtype), {1, 1, 1, 1, size});
  const ScaleArgs args = {gradient, grad_output, static_cast<float>(divisor), size};
  dispatch_float(name, dtype, [&](auto type) {
    using S = decltype(type);
    constexpr int64_t each = kThreads * (16 / sizeof(S));
    launch(name, scale_kernel<S>, args, (size + each - 1) / each, kThreads, on);
  });
}

}  // namespace fastmef
