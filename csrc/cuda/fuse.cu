// softmax_fuse and its gradients, one pass each.
//
//   F_c = sum_k W_k I_kc, W = softmax(logits / temperature) over the valid exposures
//   dL/dlogits_k = W_k (t_k - sum_j W_j t_j) / temperature, t_k = sum_c dL/dF_c I_kc + dL/dW_k
//   dL/dI_kc = W_k dL/dF_c
//
// A thread owns V neighbouring pixels and holds all weights of them in registers. V = 1 takes any
// strides; otherwise rows are dense, or, Interleaved, the three channels of a pixel are neighbours.
// Two exposures have kernels with 16-byte accesses to the images; more of them, up to eight, take 4
// pixels a thread, because the weights of 16 would not fit into the registers.

#include "../common/softmax.h"
#include "fuse.h"
#include "runs.h"

namespace fastmef {
namespace {

// The first pixel of a thread.
struct Spot {
  int64_t batch, row, column;
  bool inside;
};

template <int V>
__device__ __forceinline__ Spot locate(const FuseArgs& a) {
  const uint64_t runs = static_cast<uint64_t>(a.width / V);
  const uint64_t index = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const uint64_t row = index / runs;
  const uint64_t batch = row / a.height;
  return {static_cast<int64_t>(batch), static_cast<int64_t>(row - batch * a.height),
          static_cast<int64_t>(index - row * runs) * V, batch < static_cast<uint64_t>(a.batch)};
}

__device__ __forceinline__ int64_t offset(const Stack& x, const Spot& spot) {
  return spot.batch * x.plane + spot.row * x.row + spot.column * x.column;
}

// Bit k of use[v]: exposure k counts at pixel v. Where none is valid all count.
template <int K, int V>
__device__ __forceinline__ void read_valid(const FuseArgs& a, const Spot& spot, int count,
                                           unsigned (&use)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) use[v] = a.valid.data ? 0u : ~0u;
  if (!a.valid.data) return;
  const uint8_t* valid = static_cast<const uint8_t*>(a.valid.data) + offset(a.valid, spot);
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k < count) {
      float flags[V];
      load_run(valid + k * a.valid.layer, flags);
#pragma unroll
      for (int v = 0; v < V; ++v) use[v] |= flags[v] != 0.0f ? 1u << k : 0u;
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) use[v] = use[v] ? use[v] : ~0u;
}

// w[k][v], the weights of the pixels.
template <int K, int V>
__device__ __forceinline__ void weigh(const FuseArgs& a, const Spot& spot, int count,
                                      float (&w)[K][V]) {
  const int64_t first = offset(a.logits, spot);
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k < count) {
      load_float_run(a.logits.data, a.logits.dtype, first + k * a.logits.layer, w[k]);
#pragma unroll
      for (int v = 0; v < V; ++v) w[k][v] *= a.inverse_temperature;
    }
  }
  if (K == 2 && !a.valid.data) {
#pragma unroll
    for (int v = 0; v < V; ++v) softmax_of_two(w[0][v], w[1][v], w[0][v], w[1][v]);
    return;
  }
  unsigned use[V];
  read_valid<K>(a, spot, count, use);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    float highest = -INFINITY;
    float total = 0.0f;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (k < count && (use[v] >> k & 1u)) highest = larger(highest, w[k][v]);
    }
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (k < count) {
        w[k][v] = use[v] >> k & 1u ? exp_nonpositive(w[k][v] - highest) : 0.0f;
        total += w[k][v];
      }
    }
    const float inverse = 1.0f / total;
#pragma unroll
    for (int k = 0; k < K; ++k) w[k][v] *= inverse;
  }
}

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

template <class S, int K, int V>
__global__ void __launch_bounds__(kThreads) fuse_backward_kernel(const FuseArgs a) {
  constexpr int most = K ? K : kMostExposures;
  const int count = K ? K : a.count;
  const Spot spot = locate<V>(a);
  if (!spot.inside) return;
  float w[most][V];
  weigh(a, spot, count, w);
  float terms[most][V] = {};
  if (a.by_weights.data) {
    const int64_t first = offset(a.by_weights, spot);
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (k < count) {
        load_float_run(a.by_weights.data, a.by_weights.dtype, first + k * a.by_weights.layer,
                       terms[k]);
      }
    }
  }
  if (a.by_fused.data) {
    const S* by_fused = static_cast<const S*>(a.by_fused.data) + offset(a.by_fused, spot);
    const S* exposures = static_cast<const S*>(a.exposures.data) + offset(a.exposures, spot);
    S* by_exposures = static_cast<S*>(a.by_exposures.data);
    if (by_exposures) by_exposures += offset(a.by_exposures, spot);
    for (int64_t c = 0; c < a.channels; ++c) {
      float upstream[V];
      load_run(by_fused + c * a.by_fused.channel, upstream);
#pragma unroll
      for (int k = 0; k < most; ++k) {
        if (k < count) {
          float values[V];
          if (a.by_logits.data) {
            load_run(exposures + c * a.exposures.channel + k * a.exposures.layer, values);
#pragma unroll
            for (int v = 0; v < V; ++v) terms[k][v] += upstream[v] * values[v];
          }
          if (by_exposures) {
#pragma unroll
            for (int v = 0; v < V; ++v) values[v] = w[k][v] * upstream[v];
            store_run(values, by_exposures + c * a.by_exposures.channel + k * a.by_exposures.layer);
          }
        }
      }
    }
  }
  if (!a.by_logits.data) return;
  float mean[V] = {};
#pragma unroll
  for (int k = 0; k < most; ++k) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (k < count) mean[v] += w[k][v] * terms[k][v];
    }
  }
  const int64_t first = offset(a.by_logits, spot);
#pragma unroll
  for (int k = 0; k < most; ++k) {
    if (k < count) {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        terms[k][v] = w[k][v] * (terms[k][v] - mean[v]) * a.inverse_temperature;
      }
      store_float_run(terms[k], a.by_logits.data, a.by_logits.dtype, first + k * a.by_logits.layer);
    }
  }
}

int64_t blocks_for(const FuseArgs& a, int pixels) {
  return (a.batch * a.height * (a.width / pixels) + kThreads - 1) / kThreads;
}

// Strides of axes with one element say nothing, and must not count as misaligned.
void forget_unused_strides(FuseArgs& a) {
  for (Stack* x : {&a.fused, &a.by_fused}) x->layer = 0;
  for (Stack* x : {&a.logits, &a.valid, &a.weights, &a.by_weights, &a.by_logits}) x->channel = 0;
}

// Rows that follow each other in memory become one, and then any width has aligned rows.
void join_rows(FuseArgs& a) {
  const Stack* all[] = {&a.logits,   &a.valid,      &a.exposures, &a.fused,       &a.weights,
                        &a.by_fused, &a.by_weights, &a.by_logits, &a.by_exposures};
  for (const Stack* x : all) {
    if (!rows_join(*x, a.height, a.width)) return;
  }
  a.width *= a.height;
  a.height = 1;
}

// Can every array be read in runs of `pixels`? Those of the images have `channels` numbers a pixel.
bool in_runs(const FuseArgs& a, int pixels, int channels) {
  if (a.width % pixels) return false;
  const Stack* planes[] = {&a.logits, &a.valid, &a.weights, &a.by_weights, &a.by_logits};
  for (const Stack* x : planes) {
    if (x->data && (x->column != 1 || !runs_align(*x, pixels, a.height))) return false;
  }
  for (const Stack* x : {&a.exposures, &a.fused, &a.by_fused, &a.by_exposures}) {
    if (!image_in_runs(*x, pixels, channels, a.height)) return false;
  }
  return true;
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

[[noreturn]] void refuse(const char* operation, const char* what, int64_t got) {
  throw std::invalid_argument(std::string(operation) + ": " + what + ", got " +
                              std::to_string(got));
}

void check_args(const char* name, const FuseArgs& a) {
  if (a.count < 1 || a.count > kMostExposures) refuse(name, "1 to 8 exposures", a.count);
  const DType logits = a.logits.dtype;
  if (logits != kFloat32 && logits != kFloat16 && logits != kBFloat16) {
    refuse(name, "logits must be float32 (4), float16 (2) or bfloat16 (3)", logits);
  }
}

}  // namespace

void softmax_fuse(FuseArgs args, const Place& place) {
  check_args("softmax_fuse", args);
  forget_unused_strides(args);
  join_rows(args);
  switch (args.exposures.dtype) {
    case kUInt8: return fuse<uint8_t>(args, place);
    case kUInt16: return fuse<uint16_t>(args, place);
    case kFloat16: return fuse<Half>(args, place);
    case kBFloat16: return fuse<BFloat>(args, place);
    case kFloat32: return fuse<float>(args, place);
    default: refuse("softmax_fuse", "exposures must be of at most 32 bits", args.exposures.dtype);
  }
}

void softmax_fuse_backward(FuseArgs args, const Place& place) {
  check_args("softmax_fuse_backward", args);
  if (!args.by_fused.data) {
    args.exposures = Stack{};  // of any type: not read
    args.exposures.dtype = kFloat32;
  }
  forget_unused_strides(args);
  join_rows(args);
  switch (args.exposures.dtype) {
    case kFloat16: return fuse_backward<Half>(args, place);
    case kBFloat16: return fuse_backward<BFloat>(args, place);
    case kFloat32: return fuse_backward<float>(args, place);
    default:
      refuse("softmax_fuse_backward", "exposures must be float32, float16 or bfloat16",
             args.exposures.dtype);
  }
}

}  // namespace fastmef
