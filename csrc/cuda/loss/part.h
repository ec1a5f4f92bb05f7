// The part of the image that a block of the one-pass loss works on, its pixels, and what it keeps
// of them in shared memory.
#pragma once

#include "common/softmax.h"
#include "cuda/loss/loss.h"
#include "cuda/runtime/runs.h"

namespace fastmef {

constexpr int kHalo = kWindow - 1;
constexpr int kColumns = 128;               // threads of a block
constexpr int kOwn = kColumns - 2 * kHalo;  // the most columns whose gradient it makes

// What a block works on: rows and columns of pixels, and of the windows named by their first pixel.
// In 32 bits, because registers are short; only offsets in memory are longer.
struct Part {
  int batch, r0, r1, c0, c1;
  int a0, a1;  // window rows
  int x;       // the column of this thread; it may lie outside the image
  bool loads, has_window, counts, owns;
};

__device__ __forceinline__ Part part_of(const LossArgs& a) {
  const int height = static_cast<int>(a.height), width = static_cast<int>(a.width);
  const int strips = static_cast<int>(a.strips), chunks = static_cast<int>(a.chunks);
  const int columns = static_cast<int>(a.columns), rows = static_cast<int>(a.rows);
  const int block = static_cast<int>(blockIdx.x);
  Part p;
  p.batch = block / (strips * chunks);
  p.c0 = block % strips * columns;
  p.c1 = min(p.c0 + columns, width);
  p.r0 = block / strips % chunks * rows;
  p.r1 = min(p.r0 + rows, height);
  p.a0 = max(p.r0 - kHalo, 0);
  p.a1 = min(p.r1, height - kHalo);
  p.x = p.c0 - kHalo + static_cast<int>(threadIdx.x);
  p.loads = p.x >= 0 && p.x < min(width, p.c1 + kHalo);
  p.has_window = p.x >= 0 && p.x < min(p.c1, width - kHalo);
  p.counts = p.has_window && p.x >= p.c0;
  p.owns = p.x >= p.c0 && p.x < p.c1;
  return p;
}

// Where the pixel of this thread in row y lies.
__device__ __forceinline__ int64_t offset(const Stack& x, const Part& p, int y) {
  return p.batch * x.plane + y * x.row + p.x * x.column;
}

// One pixel: the exposures, F, and the weights that made it.
template <bool FromLogits, int K>
struct Pixel {
  float exposures[K];
  float source[FromLogits ? K : 1];

  __device__ __forceinline__ void read(const LossArgs& a, const Part& p, int y) {
    const int64_t e = offset(a.exposures, p, y);
    const int64_t s = offset(a.source, p, y);
    const bool inside = p.loads && y < a.height;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      exposures[k] = inside ? number(a.exposures, e + k * a.exposures.layer) : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < (FromLogits ? K : 1); ++k) {
      source[k] = inside ? number(a.source, s + k * a.source.layer) : 0.0f;
    }
  }

  // F; the logits become weights.
  __device__ __forceinline__ float fuse() {
    if constexpr (!FromLogits) {
      return source[0];
    } else {
      softmax(source, K);
      float fused = 0.0f;
#pragma unroll
      for (int k = 0; k < K; ++k) fused += source[k] * exposures[k];
      return fused;
    }
  }

 private:
  static __device__ __forceinline__ float number(const Stack& from, int64_t offset) {
    float value[1];
    load_float_run(from.data, from.dtype, offset, value);
    return value[0];
  }
};

// The rows that the block still needs: F and the exposures minus a constant each, in the order of
// their planes, and the weights. Eleven rows; row y lies in slot y % 11.
template <bool FromLogits, int K>
struct Rows {
  float planes[kWindow][K + 1][kColumns];
  float weights[kWindow][FromLogits ? K : 1][kColumns];
  float spread[K + 2][kColumns];  // derivatives of one row of windows
  double sums[kColumns];
  float shifts[K + 1];  // the constants; here, for registers are short
};

// The sum over the threads, in an order that depends on their number alone; threads: a
// second_moment of 2.
__device__ __forceinline__ double sum_of_block(double* sums, double mine, int threads) {
  const int t = threadIdx.x;
  sums[t] = mine;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) sums[t] += sums[t + half];
  }
  __syncthreads();
  const double total = sums[0];
  __syncthreads();
  return total;
}

// Constants near the values of the block: around them E[x^2] - E[x]^2 does not cancel.
template <bool FromLogits, int K>
__device__ __forceinline__ void sample_means(const LossArgs& a, const Part& p,
                                             Rows<FromLogits, K>& rows) {
  constexpr int samples = 4;
  float sums[K + 1] = {};
  const int step = (p.r1 - p.r0 + samples - 1) / samples;
  for (int y = p.r0 + step / 2; y < p.r1; y += step) {
    Pixel<FromLogits, K> pixel;
    pixel.read(a, p, y);
    const float fused = pixel.fuse();
    // One value that is not a number must not reach the whole block.
    if (p.loads && fused - fused == 0.0f) sums[0] += fused;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const float x = pixel.exposures[k];
      if (x - x == 0.0f) sums[k + 1] += x;
    }
  }
  const int first = max(p.c0 - kHalo, 0);
  const int end = min(p.c1 + kHalo, static_cast<int>(a.width));
  const double count =
      static_cast<double>((end - first) * ((p.r1 - p.r0 - step / 2 + step - 1) / step));
#pragma unroll
  for (int plane = 0; plane <= K; ++plane) {
    const double total = sum_of_block(rows.sums, sums[plane], kColumns);
    if (threadIdx.x == 0) rows.shifts[plane] = static_cast<float>(total / count);
  }
  __syncthreads();
}

}  // namespace fastmef
