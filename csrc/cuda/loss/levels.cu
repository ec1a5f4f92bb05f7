// The coarser levels of the one-pass loss: 2x2 means of F and the exposures, for all levels in one
// launch. The last row or column of an odd size has no partner and is copied.
//
// A block handles a square of pixels of the finest level. A thread averages four of them for level
// 1; the coarser levels are computed from shared memory. The first block also sets the counters to
// 0.

#include "common/attributes.h"
#include "cuda/loss/tile.h"

namespace fastmef {
namespace {

constexpr int kSide = 32;
static_assert(kSide == 1 << (kMostLevels - 1), "a square has a pixel on every level");
static_assert(kThreads == kSide * kSide / 4, "a thread averages four pixels");

// The means of F and the exposures at one level.
template <int K>
using Square = float2[K + 1][kSide / 2][kSide / 4];

// Writes the means of pixel (y, x) of a coarser level. In memory the exposures follow F.
template <int K>
__device__ __forceinline__ void write(const Level& level, int batch, int y, int x,
                                      const float (&means)[K + 1]) {
  float* at = static_cast<float*>(level.source.data) + offset(level.source, batch, y, x);
#pragma unroll
  for (int m = 0; m <= K; ++m, at += level.exposures.layer) *at = means[m];
}

// Reads two neighbours in one access of 8 bytes for each plane.
template <bool FromLogits, int K>
__device__ __forceinline__ void read_two(const Level& level, int64_t e, int64_t s, bool inside,
                                         Pixel<FromLogits, K> (&to)[2]) {
  const auto read = [&](const Stack& from, int64_t at) {
    const float* const data = static_cast<const float*>(from.data);
    return inside ? *reinterpret_cast<const float2*>(data + at) : float2{0.0f, 0.0f};
  };
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const float2 both = read(level.exposures, e + k * level.exposures.layer);
    to[0].exposures[k] = both.x;
    to[1].exposures[k] = both.y;
  }
#pragma unroll
  for (int k = 0; k < Pixel<FromLogits, K>::kSources; ++k) {
    const float2 both = read(level.source, s + k * level.source.layer);
    to[0].source[k] = both.x;
    to[1].source[k] = both.y;
  }
}

// Returns the mean of four pixels; those beyond the border are replaced by their neighbours.
__device__ __forceinline__ float mean(float a, float b, float c, float d, bool below, bool right) {
  if (!right) b = a, d = c;
  if (!below) c = a, d = b;
  return 0.25f * ((a + b) + (c + d));
}

template <bool FromLogits, int K, bool Common>
__global__ void __launch_bounds__(kThreads) levels_kernel(const __grid_constant__ LossArgs a) {
  __shared__ Square<K> square;
  const int t = threadIdx.x;
  if (blockIdx.x == 0 && t < 2) a.counters[t] = 0;
  if (a.levels == 1) return;
  const Level& finest = a.level[0];
  const unsigned across = (finest.width + kSide - 1) / kSide;
  const unsigned down = (finest.height + kSide - 1) / kSide;
  const unsigned squares = blockIdx.x / across;  // rows of them, in all images
  const int batch = static_cast<int>(squares / down);
  const int top = static_cast<int>(squares - batch * down);
  const int left = static_cast<int>(blockIdx.x - squares * across);
  float means[K + 1];
  {
    const int row = t / (kSide / 2), column = t % (kSide / 2);
    const int y = top * kSide + 2 * row, x = left * kSide + 2 * column;
    const bool below = y + 1 < finest.height, right = x + 1 < finest.width;
    const bool inside = y < finest.height && x < finest.width;
    int64_t e = offset(finest.exposures, batch, y, x);
    int64_t s = offset(finest.source, batch, y, x);
    float values[4][K + 1];
#pragma unroll
    for (int dy = 0; dy < 2; ++dy) {
      const bool here = inside && (!dy || below);
      Pixel<FromLogits, K> pixels[2];
      if (Common && a.in_pairs) {
        read_two(finest, e, s, here, pixels);
      } else {
        pixels[0].template read<Common>(finest, e, s, here);
        pixels[1].template read<Common>(finest, e + finest.exposures.column,
                                        s + finest.source.column, here && right);
      }
#pragma unroll
      for (int dx = 0; dx < 2; ++dx) {
        values[2 * dy + dx][0] = pixels[dx].fuse();
#pragma unroll
        for (int k = 0; k < K; ++k) values[2 * dy + dx][k + 1] = pixels[dx].exposures[k];
      }
      e += finest.exposures.row;
      s += finest.source.row;
    }
#pragma unroll
    for (int m = 0; m <= K; ++m) {
      means[m] = mean(values[0][m], values[1][m], values[2][m], values[3][m], below, right);
      reinterpret_cast<float*>(square[m][row])[column] = means[m];
    }
    if (inside) write<K>(a.level[1], batch, y / 2, x / 2, means);
  }
  for (int l = 2; l < a.levels; ++l) {
    const Level& finer = a.level[l - 1];
    const Level& level = a.level[l];
    const int side = kSide >> l;
    const int row = t >> (kMostLevels - 1 - l), column = t & (side - 1);
    const int y = top * side + row, x = left * side + column;
    const bool mine = row < side;
    __syncthreads();
    if (mine) {
      const bool below = 2 * y + 1 < finer.height, right = 2 * x + 1 < finer.width;
#pragma unroll
      for (int m = 0; m <= K; ++m) {
        const float2 upper = square[m][2 * row][column], lower = square[m][2 * row + 1][column];
        means[m] = mean(upper.x, upper.y, lower.x, lower.y, below, right);
      }
    }
    __syncthreads();
    if (mine) {
#pragma unroll
      for (int m = 0; m <= K; ++m) reinterpret_cast<float*>(square[m][row])[column] = means[m];
      if (y < level.height && x < level.width) write<K>(level, batch, y, x, means);
    }
  }
}

// Launches the kernel that was compiled for these arguments.
template <bool FromLogits, int K>
void prepare(const LossArgs& a, const DeviceAndStream& on) {
  const Level& finest = a.level[0];
  const int64_t across = (finest.width + kSide - 1) / kSide;
  const int64_t down = (finest.height + kSide - 1) / kSide;
  const int64_t blocks = a.levels == 1 ? 1 : a.batch * across * down;
  const auto kernel = is_common(a) ? levels_kernel<FromLogits, K, true>  //
                                   : levels_kernel<FromLogits, K, false>;
  launch("fusion_loss", kernel, a, blocks, kThreads, on);
}

}  // namespace

void prepare_levels(const LossArgs& a, const DeviceAndStream& on) {
  if (a.count == 2) {
    a.from_logits ? prepare<true, 2>(a, on) : prepare<false, 2>(a, on);
  } else {
    a.from_logits ? prepare<true, 3>(a, on) : prepare<false, 3>(a, on);
  }
}

}  // namespace fastmef
