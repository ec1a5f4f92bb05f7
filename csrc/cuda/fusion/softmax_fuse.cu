// softmax_fuse in one pass.
//
//   F_c = sum_k W_k I_kc, W = softmax(logits / temperature) over the valid exposures
//
// A thread handles V neighbouring pixels and holds all their weights in registers. V = 1 supports
// any strides; otherwise rows are dense, or, if Interleaved, the three channels of a pixel are
// neighbours. Runs that fill 16-byte accesses to the images are the first choice; runs of 4 pixels,
// whose logits are 16 bytes, are used for 8- and 16-bit images with less aligned planes. Two
// exposures have specialised kernels; K = 0 handles up to eight.

#include "cuda/fusion/pixels.h"
#include "cuda/runtime/storage.h"

namespace fastmef {
namespace {

// Computes V numbers of the fused image, the weighted sums over the exposures. Number i belongs to
// the pixel (i + first) / channels of the thread.
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

// Fuses V pixels of one thread.
template <class S, int K, int V, bool Interleaved>
__device__ __forceinline__ void fuse_run(const FuseArgs& a, const Spot& spot) {
  constexpr int most = K ? K : kMostExposures;
  const int count = K ? K : a.count;
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

// Blocks that must fit a multiprocessor. Left to itself, the compiler spills some registers of a
// few kernels to fit one block more; from sm_90 on it does not, but spills where it may not choose.
template <int K, int V>
constexpr int kBlocks = K || V == 1 ? 4 : (V > 8 ? 1 : 2);

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define FASTMEF_BLOCKS(K, V)
#else
#define FASTMEF_BLOCKS(K, V) , kBlocks<K, V>
#endif

template <class S, int K, int V, bool Interleaved>
__global__ void __launch_bounds__(kThreads FASTMEF_BLOCKS(K, V)) fuse_kernel(const FuseArgs a) {
  for_pixels<V, kWide<S, V>>(a, [&](const Spot& spot, auto length) {
    constexpr int pixels = decltype(length)::value;
    fuse_run<S, K, pixels, Interleaved && pixels == V>(a, spot);
  });
}

template <class S, int V, bool Interleaved>
void fuse_in_runs(const FuseArgs& a, const DeviceAndStream& on) {
  const auto kernel = a.count == 2 ? fuse_kernel<S, 2, V, Interleaved>  //
                                   : fuse_kernel<S, 0, V, Interleaved>;
  launch("softmax_fuse", kernel, a, blocks_for(a, V), kThreads, on);
}

template <class S>
void fuse(const FuseArgs& a, const DeviceAndStream& on) {
  constexpr int wide = 16 / sizeof(S);
  const bool rgb = a.channels == 3;
  if (in_runs<true>(a, wide, 1)) {
    fuse_in_runs<S, wide, false>(a, on);
  } else if (rgb && in_runs<true>(a, wide, 3)) {
    fuse_in_runs<S, wide, true>(a, on);
  } else if (in_runs<false>(a, 4, 1)) {
    fuse_in_runs<S, 4, false>(a, on);
  } else if (rgb && in_runs<false>(a, 4, 3)) {
    fuse_in_runs<S, 4, true>(a, on);
  } else {
    launch("softmax_fuse", fuse_kernel<S, 0, 1, false>, a, blocks_for(a, 1), kThreads, on);
  }
}

}  // namespace

void softmax_fuse(FuseArgs args, const DeviceAndStream& on) {
  const char* name = "softmax_fuse";
  Arrays arrays(name);
  check_inputs(name, args, arrays);
  check_types(name, args);
  arrays.written("fused", args.fused, {args.batch, 1, args.channels, args.height, args.width});
  arrays.written("weights", args.weights, {args.batch, args.count, 1, args.height, args.width});
  forget_unused_strides(args);
  join_rows(args);
  dispatch_storage(name, args.exposures.dtype, [&](auto type) { fuse<decltype(type)>(args, on); });
}

}  // namespace fastmef
