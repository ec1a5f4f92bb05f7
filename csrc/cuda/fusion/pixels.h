// What the kernels of softmax_fuse and of its gradients begin with: the pixels of a thread and the
// weights of their exposures.
#pragma once

#include "common/softmax.h"
#include "cuda/fusion/softmax_fuse.h"
#include "cuda/runtime/runs.h"

namespace fastmef {

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

}  // namespace fastmef
