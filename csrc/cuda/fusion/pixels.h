// The first steps of the kernels of softmax_fuse and its backward pass: the pixels of a thread and
// the weights of their exposures.
#pragma once

#include "common/softmax.h"
#include "cuda/fusion/layout.h"
#include "cuda/runtime/runs.h"

namespace fastmef {

// The first pixel of a thread.
struct Spot {
  int64_t batch, row, column;
  bool inside;
};

// A number of pixels that is known at compile time.
template <int V>
struct Length {
  static constexpr int value = V;
};

// Returns the first pixel of this thread. A division of 64-bit numbers takes about a hundred
// instructions, and few images need it, so there are two variants.
template <int V, class Index>
__device__ __forceinline__ Spot locate_among(const FuseArgs& a) {
  const Index runs = static_cast<Index>(runs_of(a, V));
  const Index height = static_cast<Index>(a.height);
  const Index index = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  const Index row = index / runs;
  const Index batch = height == 1 ? row : row / height;
  return {static_cast<int64_t>(batch), static_cast<int64_t>(row - batch * height),
          static_cast<int64_t>(index - row * runs) * V, batch < static_cast<Index>(a.batch)};
}

template <int V>
__device__ __forceinline__ Spot locate(const FuseArgs& a) {
  // The number of blocks is rounded up, and the index of the last thread must fit as well.
  const bool few = a.batch * a.height * runs_of(a, V) <= UINT32_MAX - kThreads;
  return few ? locate_among<V, uint32_t>(a) : locate_among<V, uint64_t>(a);
}

__device__ __forceinline__ int64_t offset(const Stack& x, const Spot& spot) {
  return spot.batch * x.plane + spot.row * x.row + spot.column * x.column;
}

// Sets bit k of use[v] if exposure k counts at pixel v. If none is valid, all count.
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

// Computes w[k][v], the weight of exposure k at pixel v.
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
    const float inverse = reciprocal(total);
#pragma unroll
    for (int k = 0; k < K; ++k) w[k][v] *= inverse;
  }
}

// Calls run(spot, V), or run(spot, 1) for every pixel of a run that is cut off by the end of the
// row. Such runs exist only with tails.
template <int V, bool WithTails, class Run>
__device__ __forceinline__ void for_pixels(const FuseArgs& a, const Run& run) {
  Spot spot = locate<V>(a);
  if (!spot.inside) return;
  if (!WithTails || spot.column + V <= a.width) {
    run(spot, Length<V>());
  } else {
    for (; spot.column < a.width; ++spot.column) run(spot, Length<1>());
  }
}

}  // namespace fastmef
