// softmax_fuse in one pass.
//
//   F_c = sum_k W_k I_kc, W = softmax(logits / temperature) over the valid exposures
//
// A thread owns V neighbouring pixels and holds all weights of them in registers. V = 1 takes any
// strides; otherwise rows are dense, or, Interleaved, the three channels of a pixel are neighbours.
// Two exposures have kernels with 16-byte accesses to the images; more of them, up to eight, take 4
// pixels a thread, because the weights of 16 would not fit into the registers.

#include "cuda/fusion/layout.h"
#include "cuda/fusion/pixels.h"
#include "cuda/runtime/storage.h"

namespace fastmef {
namespace {

// The sum over the exposures of V numbers `step` further in every exposure. Number i belongs to the
// pixel (i + first) / channels of the thread.
template <class S, int K, int V>
__device__ __forceinline__ void mix(const FuseArgs& a, const S* exposures, const float (&w)[K][V],
                                    int count, int first, int channels, S* fused) {
  float sum[V] = {};
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k < count) {
      float values[V];
      load_run(exposures + k * a.exposures.layer, values);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += w[k][(v + first) / channels] * values[v];
    }
  }
  store_run(sum, fused);
}

template <class S, int K, int V, bool Interleaved>
__global__ void __launch_bounds__(kThreads) fuse_kernel(const FuseArgs a) {
  constexpr int most = K ? K : kMostExposures;
  const int count = K ? K : a.count;
  const Spot spot = locate<V>(a);
  if (!spot.inside) return;
  float w[most][V];
  weigh(a, spot, count, w);
  if (a.weights.data) {
    const int64_t first = offset(a.weights, spot);
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (k < count) {
        store_float_run(w[k], a.weights.data, a.weights.dtype, first + k * a.weights.layer);
      }
    }
  }
  const S* exposures = static_cast<const S*>(a.exposures.data) + offset(a.exposures, spot);
  S* fused = static_cast<S*>(a.fused.data) + offset(a.fused, spot);
  if (Interleaved) {
#pragma unroll
    for (int j = 0; j < 3; ++j) mix(a, exposures + j * V, w, count, j * V, 3, fused + j * V);
  } else {
    for (int64_t c = 0; c < a.channels; ++c) {
      mix(a, exposures + c * a.exposures.channel, w, count, 0, 1, fused + c * a.fused.channel);
    }
  }
}

template <class S>
void fuse(const FuseArgs& a, const Place& place) {
  const char* name = "softmax_fuse";
  constexpr int wide = 16 / sizeof(S);
  const bool rgb = a.channels == 3;
  if (a.count == 2 && in_runs(a, wide, 1)) {
    launch(name, fuse_kernel<S, 2, wide, false>, a, blocks_for(a, wide), kThreads, place);
  } else if (a.count == 2 && rgb && in_runs(a, wide, 3)) {
    launch(name, fuse_kernel<S, 2, wide, true>, a, blocks_for(a, wide), kThreads, place);
  } else if (in_runs(a, 4, 1)) {
    launch(name, fuse_kernel<S, 0, 4, false>, a, blocks_for(a, 4), kThreads, place);
  } else if (rgb && in_runs(a, 4, 3)) {
    launch(name, fuse_kernel<S, 0, 4, true>, a, blocks_for(a, 4), kThreads, place);
  } else {
    launch(name, fuse_kernel<S, 0, 1, false>, a, blocks_for(a, 1), kThreads, place);
  }
}

}  // namespace

void softmax_fuse(FuseArgs args, const Place& place) {
  const char* name = "softmax_fuse";
  Arrays arrays(name);
  check_inputs(name, args, arrays);
  check_types(name, args);
  arrays.written("fused", args.fused, {args.batch, 1, args.channels, args.height, args.width});
  arrays.written("weights", args.weights, {args.batch, args.count, 1, args.height, args.width});
  forget_unused_strides(args);
  join_rows(args);
  dispatch_storage(name, args.exposures.dtype,
                   [&](auto type) { fuse<decltype(type)>(args, place); });
}

}  // namespace fastmef
