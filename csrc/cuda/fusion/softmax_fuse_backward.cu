// The backward pass of softmax_fuse in one kernel. Threads handle pixels as in softmax_fuse.cu.
//
//   dL/dlogits_k = W_k (t_k - sum_j W_j t_j) / temperature, t_k = sum_c dL/dF_c I_kc + dL/dW_k
//   dL/dI_kc = W_k dL/dF_c

#include "cuda/fusion/pixels.h"
#include "cuda/runtime/storage.h"

namespace fastmef {
namespace {

// Reads V numbers of grad_fused, adds to the terms t_k and writes grad_exposures. Number i belongs
// to the pixel (i + first) / channels of the thread.
template <class S, int K, int V>
__device__ __forceinline__ void mix_backward(const FuseArgs& a, const S* grad_fused,
                                             const S* exposures, S* grad_exposures,
                                             const float (&w)[K][V], int count, int first,
                                             int channels, float (&terms)[K][V]) {
  float grad_output[V];
  load_run(grad_fused, grad_output);
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k < count) {
      float values[V];
      if (a.grad_logits.data) {
        load_run(exposures + k * a.exposures.layer, values);
#pragma unroll
        for (int v = 0; v < V; ++v) terms[k][(v + first) / channels] += grad_output[v] * values[v];
      }
      if (grad_exposures) {
#pragma unroll
        for (int v = 0; v < V; ++v) values[v] = w[k][(v + first) / channels] * grad_output[v];
        store_run(values, grad_exposures + k * a.grad_exposures.layer);
      }
    }
  }
}

// Computes the gradients for V pixels of one thread.
template <class S, int K, int V, bool Interleaved>
__device__ __forceinline__ void fuse_backward_run(const FuseArgs& a, const Spot& spot) {
  constexpr int most = K ? K : kMostExposures;
  const int count = K ? K : a.count;
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
    if (Interleaved) {
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        mix_backward(a, grad_fused + j * V, exposures + j * V,
                     grad_exposures ? grad_exposures + j * V : nullptr, w, count, j * V, 3, terms);
      }
    } else {
      for (int64_t c = 0; c < a.channels; ++c) {
        mix_backward(a, grad_fused + c * a.grad_fused.channel, exposures + c * a.exposures.channel,
                     grad_exposures ? grad_exposures + c * a.grad_exposures.channel : nullptr, w,
                     count, 0, 1, terms);
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

// Blocks that must fit a multiprocessor; see softmax_fuse.cu.
template <int K, int V>
constexpr int kBlocks = K ? 3 : (V > 4 ? 1 : 2);

template <class S, int K, int V, bool Interleaved>
__global__ void __launch_bounds__(kThreads, kBlocks<K, V>) fuse_backward_kernel(const FuseArgs a) {
  for_pixels<V, kWide<S, V>>(a, [&](const Spot& spot, auto length) {
    constexpr int pixels = decltype(length)::value;
    fuse_backward_run<S, K, pixels, Interleaved && pixels == V>(a, spot);
  });
}

template <class S, int V, bool Interleaved>
void fuse_backward_in_runs(const FuseArgs& a, const DeviceAndStream& on) {
  const auto kernel = a.count == 2 ? fuse_backward_kernel<S, 2, V, Interleaved>
                                   : fuse_backward_kernel<S, 0, V, Interleaved>;
  launch("softmax_fuse_backward", kernel, a, blocks_for(a, V), kThreads, on);
}

template <class S>
void fuse_backward(const FuseArgs& a, const DeviceAndStream& on) {
  constexpr int wide = 16 / sizeof(S);
  const bool rgb = a.channels == 3;
  if (in_runs<true>(a, wide, 1)) {
    fuse_backward_in_runs<S, wide, false>(a, on);
  } else if (rgb && in_runs<true>(a, wide, 3)) {
    fuse_backward_in_runs<S, wide, true>(a, on);
  } else if (in_runs<false>(a, 4, 1)) {
    fuse_backward_in_runs<S, 4, false>(a, on);
  } else {
    launch("softmax_fuse_backward", fuse_backward_kernel<S, 0, 1, false>, a, blocks_for(a, 1),
           kThreads, on);
  }
}

}  // namespace

void softmax_fuse_backward(FuseArgs args, const DeviceAndStream& on) {
  const char* name = "softmax_fuse_backward";
  if (!args.grad_fused.data) {
    args.exposures = Stack{};  // it is not read and may have any type
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
                 [&](auto type) { fuse_backward<decltype(type)>(args, on); });
}

}  // namespace fastmef
