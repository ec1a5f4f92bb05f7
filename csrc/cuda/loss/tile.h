// The part of a level that a block of the one-pass loss handles, its pixels, and its rows in shared
// memory.
#pragma once

#include "common/softmax.h"
#include "cuda/loss/loss.h"
#include "cuda/runtime/runs.h"

namespace fastmef {

// The most threads of a block, one for each of its columns. With more than two warps for each of
// the four schedulers a thread would have 168 registers and spill; with three exposures the limit
// is shared memory.
template <int K>
constexpr int kMostThreads = K == 2 ? 256 : 192;
// The number of pairs of rows in shared memory: the newest one, five before it whose pixels have no
// gradient yet, and one that slower threads may still be reading.
constexpr int kPairs = kHalo / 2 + 2;

// The rows and columns of pixels of a block, and of windows, which are identified by their first
// pixel. They have 32 bits to save registers; only offsets in memory have more. r0 and a0 are even.
struct Tile {
  int batch, r0, r1, c0, c1;
  int a0, a1;  // window rows
  int first;   // the column of thread 0
  int x;       // the column of this thread; it may lie outside the image
  bool loads, has_window, counts, owns;
};

// Returns the tile of a block of the level, for this thread.
__device__ __forceinline__ Tile tile_of(const Level& level, int block) {
  Tile p;
  p.batch = block / (level.strips * level.chunks);
  p.c0 = block % level.strips * level.columns;
  p.c1 = min(p.c0 + level.columns, level.width);
  p.r0 = block / level.strips % level.chunks * level.rows;
  p.r1 = min(p.r0 + level.rows, level.height);
  p.a0 = max(p.r0 - kHalo, 0);
  p.a1 = min(p.r1, level.height - kHalo);
  p.first = max(p.c0 - kHalo, 0);
  p.x = p.first + static_cast<int>(threadIdx.x);
  p.loads = p.x < min(level.width, p.c1 + kHalo);
  p.has_window = p.x < min(p.c1, level.width - kHalo);
  p.counts = p.has_window && p.x >= p.c0;
  p.owns = p.x >= p.c0 && p.x < p.c1;
  return p;
}

// Returns the offset of a pixel.
__device__ __forceinline__ int64_t offset(const Stack& x, int batch, int row, int column) {
  return batch * x.plane + row * x.row + column * x.column;
}

// Reads a value; Single says that the array is float32.
template <bool Single>
__device__ __forceinline__ float number(const Stack& from, int64_t offset) {
  if constexpr (Single) {
    return static_cast<const float*>(from.data)[offset];
  } else {
    float value[1];
    load_float_run(from.data, from.dtype, offset, value);
    return value[0];
  }
}

// One pixel: the exposures, and F or the logits.
template <bool FromLogits, int K>
struct Pixel {
  static constexpr int kSources = FromLogits ? K : 1;
  float exposures[K];
  float source[kSources];

  // `e` and `s` are the offsets of the pixel; the values are 0 if it is not `inside`.
  template <bool Single>
  __device__ __forceinline__ void read(const Level& level, int64_t e, int64_t s, bool inside) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      exposures[k] = inside ? number<Single>(level.exposures, e + k * level.exposures.layer) : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kSources; ++k) {
      source[k] = inside ? number<Single>(level.source, s + k * level.source.layer) : 0.0f;
    }
  }

  // Returns F and replaces the logits by the weights.
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

  // Computes dF / dlogits after fuse(): W_k (I_k - F), which is +-W_1 W_2 (I_1 - I_2) for two
  // exposures.
  __device__ __forceinline__ void slopes(float fused, float (&to)[K == 2 ? 1 : K]) const {
    if constexpr (K == 2) {
      to[0] = source[0] * source[1] * (exposures[0] - exposures[1]);
    } else {
#pragma unroll
      for (int k = 0; k < K; ++k) to[k] = source[k] * (exposures[k] - fused);
    }
  }
};

// The pixels of this thread in two rows.
template <bool FromLogits, int K>
struct Pair {
  Pixel<FromLogits, K> rows[2];

  // `e` and `s` are offsets of the first pixel, which lies in row y.
  template <bool Single>
  __device__ __forceinline__ void read(const Level& level, int64_t e, int64_t s, bool inside,
                                       int y) {
    rows[0].template read<Single>(level, e, s, inside && y < level.height);
    rows[1].template read<Single>(level, e + level.exposures.row, s + level.source.row,
                                  inside && y + 1 < level.height);
  }
};

// The number of values of dF / dlogits that are stored for each pixel. For two exposures the second
// value is minus the first.
template <int K>
constexpr int kSlopes = K == 2 ? 1 : K;

// Two rows of N planes; one access moves the values of two planes.
template <int N, int Columns>
class Planes {
 public:
  __device__ __forceinline__ void load(int column, float2 (&to)[N]) const {
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const float4 both = fours_[i][column];
      to[2 * i] = {both.x, both.y};
      to[2 * i + 1] = {both.z, both.w};
    }
    if (N % 2) to[N - 1] = two_[column];
  }

  __device__ __forceinline__ float2 load_one(int column, int plane) const {
    if (plane / 2 == N / 2) return two_[column];
    const float4& both = fours_[plane / 2][column];
    return plane % 2 ? float2{both.z, both.w} : float2{both.x, both.y};
  }

  __device__ __forceinline__ void store(int column, const float2 (&from)[N]) {
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const float2 a = from[2 * i], b = from[2 * i + 1];
      fours_[i][column] = {a.x, a.y, b.x, b.y};
    }
    if (N % 2) two_[column] = from[N - 1];
  }

 private:
  float4 fours_[N < 2 ? 1 : N / 2][N < 2 ? 1 : Columns];
  float2 two_[N % 2 ? Columns : 1];
};

// The pairs of rows that the block still needs: F and the exposures minus their constants, and
// dF / dlogits. Rows y and y + 1 are in slot y / 2 % kPairs.
template <bool FromLogits, int K>
struct Rows {
  static constexpr int kThreads = kMostThreads<K>;
  Planes<1, kThreads> fused[kPairs];
  Planes<K, kThreads> exposures[kPairs];
  Planes<FromLogits ? kSlopes<K> : 1, FromLogits ? kThreads : 1> slopes[kPairs];
  Planes<K + 2, kHalo + kThreads> derivatives;  // derivatives of windows, after columns of zeros
  float shifts[K + 1];                          // the constants; here, for registers are short
  unsigned turn;                                // how many blocks were done before this one
};

// Returns the sum over the threads, in an order that depends on their number only.
__device__ __forceinline__ double sum_of_block(double* memory, double mine) {
  const int t = threadIdx.x;
  memory[t] = mine;
  for (int left = blockDim.x; left > 1;) {
    const int half = (left + 1) / 2;
    __syncthreads();
    if (t < left - half) memory[t] += memory[t + half];
    left = half;
  }
  __syncthreads();
  const double total = memory[0];
  __syncthreads();
  return total;
}

// Computes constants near the values of the block, the means of 4 x 32 pixels. They are subtracted
// because E[x^2] - E[x]^2 would lose precision by cancellation.
template <bool Single, bool FromLogits, int K>
__device__ __forceinline__ void sample_means(const Level& level, const Tile& p,
                                             Rows<FromLogits, K>& rows) {
  constexpr int kRows = 4, kLanes = 32;
  float* const memory = reinterpret_cast<float*>(&rows.derivatives);
  const int t = threadIdx.x;
  if (t < kLanes) {
    const int columns = min(p.c1 + kHalo, level.width) - p.first;
    const int x = p.first + t * columns / kLanes;
    float sums[K + 1] = {};
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int y = p.r0 + (2 * i + 1) * (p.r1 - p.r0) / (2 * kRows);
      Pixel<FromLogits, K> pixel;
      pixel.template read<Single>(level, offset(level.exposures, p.batch, y, x),
                                  offset(level.source, p.batch, y, x), true);
      const float fused = pixel.fuse();
      // A single NaN must not make the whole block NaN.
      if (fused - fused == 0.0f) sums[0] += fused;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const float value = pixel.exposures[k];
        if (value - value == 0.0f) sums[k + 1] += value;
      }
    }
#pragma unroll
    for (int m = 0; m <= K; ++m) memory[m * kLanes + t] = sums[m];
  }
  __syncthreads();
  if (t <= K) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) sum += memory[t * kLanes + i];
    rows.shifts[t] = sum / (kRows * kLanes);
  }
  __syncthreads();
}

}  // namespace fastmef
