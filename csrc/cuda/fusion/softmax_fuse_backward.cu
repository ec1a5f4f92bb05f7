// The gradients of softmax_fuse in one pass; threads and pixels as in softmax_fuse.cu.
//
//   dL/dlogits_k = W_k (t_k - sum_j W_j t_j) / temperature, t_k = sum_c dL/dF_c I_kc + dL/dW_k
//   dL/dI_kc = W_k dL/dF_c

#include "cuda/fusion/layout.h"
#include "cuda/fusion/pixels.h"
#include "cuda/runtime/storage.h"

namespace fastmef {
namespace {

template <class S, int K, int V>
__global__ void __launch_bounds__(kThreads) fuse_backward_kernel(const FuseArgs a) {
  constexpr int most = K ? K : kMostExposures;
  const int count = K ? K : a.count;
  const Spot spot = locate<V>(a);
  if (!spot.inside) return;
  float w[most][V];
  weigh(a, spot, count, w);
  float terms[most][V] = {};
  if (a.grad_weights.data) {
    const int64_t first = offset(a.grad_weights, spot);
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (k < count) {
        load_float_run(a.grad_weights.data, a.grad_weights.dtype, first + k * a.grad_weights.layer,
                       terms[k]);
      }
    }
  }
  if (a.grad_fused.data) {
    const S* grad_fused = static_cast<const S*>(a.grad_fused.data) + offset(a.grad_fused, spot);
    const S* exposures = static_cast<const S*>(a.exposures.data) + offset(a.exposures, spot);
    S* grad_exposures = static_cast<S*>(a.grad_exposures.data);
    if (grad_exposures) grad_exposures += offset(a.grad_exposures, spot);
    for (int64_t c = 0; c < a.channels; ++c) {
      float grad_output[V];
      load_run(grad_fused + c * a.grad_fused.channel, grad_output);
#pragma unroll
      for (int k = 0; k < most; ++k) {
        if (k < count) {
          float values[V];
          if (a.grad_logits.data) {
            load_run(exposures + c * a.exposures.channel + k * a.exposures.layer, values);
#pragma unroll
            for (int v = 0; v < V; ++v) terms[k][v] += grad_output[v] * values[v];
          }
          if (grad_exposures) {
#pragma unroll
            for (int v = 0; v < V; ++v) values[v] = w[k][v] * grad_output[v];
            store_run(values,
                      grad_exposures + c * a.grad_exposures.channel + k * a.grad_exposures.layer);
          }
        }
      }
    }
  }
  if (!a.grad_logits.data) return;
  float mean[V] = {};
#pragma unroll
  for (int k = 0; k < most; ++k) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (k < count) mean[v] += w[k][v] * terms[k][v];
    }
  }
  const int64_t first = offset(a.grad_logits, spot);
#pragma unroll
  for (int k = 0; k < most; ++k) {
    if (k < count) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        terms[k][v] = w[k][v] * (terms[k][v] - mean[v]) * a.inverse_temperature;
      }
      store_float_run(terms[k], a.grad_logits.data, a.grad_logits.dtype,
                      first + k * a.grad_logits.layer);
    }
  }
}

template <class S>
void fuse_backward(const FuseArgs& a, const Place& place) {
  const char* name = "softmax_fuse_backward";
  constexpr int wide = 16 / sizeof(S);
  if (a.count == 2 && in_runs(a, wide, 1)) {
    launch(name, fuse_backward_kernel<S, 2, wide>, a, blocks_for(a, wide), kThreads, place);
  } else if (in_runs(a, 4, 1)) {
    launch(name, fuse_backward_kernel<S, 0, 4>, a, blocks_for(a, 4), kThreads, place);
  } else {
    launch(name, fuse_backward_kernel<S, 0, 1>, a, blocks_for(a, 1), kThreads, place);
  }
}

}  // namespace

void softmax_fuse_backward(FuseArgs args, const Place& place) {
  const char* name = "softmax_fuse_backward";
  if (!args.grad_fused.data) {
    args.exposures = Stack{};  // of any type: not read
    args.exposures.dtype = kFloat32;
  }
  Arrays arrays(name);
  check_inputs(name, args, arrays);
  check_types(name, args);
  const Sizes planes = {args.batch, args.count, 1, args.height, args.width};
  const Sizes images = {args.batch, args.count, args.channels, args.height, args.width};
  arrays.read("grad_fused", args.grad_fused,
              {args.batch, 1, args.channels, args.height, args.width});
  arrays.read("grad_weights", args.grad_weights, planes);
  arrays.written("grad_logits", args.grad_logits, planes);
  arrays.written("grad_exposures", args.grad_exposures, images);
  forget_unused_strides(args);
  join_rows(args);
  dispatch_float(name, args.exposures.dtype,
                 [&](auto type) { fuse_backward<decltype(type)>(args, place); });
}

}  // namespace fastmef
