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
using Square = float[K + 1][kSide / 2][kSide / 2];

// Returns the address of pixel (y, x) in plane m (F, then the exposures) of a coarser level.
__device__ __forceinline__ float* pixel_of(const Level& level, int m, int64_t batch, int y, int x) {
  float* const data = static_cast<float*>(m ? level.exposures.data : level.source.data);
  const int64_t layer = m ? (m - 1) * level.exposures.layer : 0;
  return data + batch * level.source.plane + layer + static_cast<int64_t>(y) * level.width + x;
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
  const int64_t batch = blockIdx.x / (across * down);
  const int top = static_cast<int>(blockIdx.x / across % down);
  const int left = static_cast<int>(blockIdx.x % across);
  {
    const int row = t / (kSide / 2), column = t % (kSide / 2);
    const int y = top * kSide + 2 * row, x = left * kSide + 2 * column;
    const bool below = y + 1 < finest.height, right = x + 1 < finest.width;
    const bool inside = y < finest.height && x < finest.width;
    float values[4][K + 1];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int dy = i / 2, dx = i % 2;
      const bool here = inside && (!dy || below) && (!dx || right);
      Pixel<FromLogits, K> pixel;
      pixel.template read<Common>(
          finest, offset(finest.exposures, static_cast<int>(batch), y + dy, x + dx),
          offset(finest.source, static_cast<int>(batch), y + dy, x + dx), here);
      values[i][0] = pixel.fuse();
#pragma unroll
      for (int k = 0; k < K; ++k) values[i][k + 1] = pixel.exposures[k];
    }
#pragma unroll
    for (int m = 0; m <= K; ++m) {
      const float x1 = mean(values[0][m], values[1][m], values[2][m], values[3][m], below, right);
      square[m][row][column] = x1;
      if (inside) *pixel_of(a.level[1], m, batch, y / 2, x / 2) = x1;
    }
  }
  for (int l = 2; l < a.levels; ++l) {
    const Level& finer = a.level[l - 1];
    const Level& level = a.level[l];
    const int side = kSide >> l;
    const int row = t / side, column = t % side;
    const int y = top * side + row, x = left * side + column;
    const bool below = 2 * y + 1 < finer.height, right = 2 * x + 1 < finer.width;
    const bool mine = row < side;
    float means[K + 1];
    __syncthreads();
    if (mine) {
#pragma unroll
      for (int m = 0; m <= K; ++m) {
        const auto& s = square[m];
        means[m] = mean(s[2 * row][2 * column], s[2 * row][2 * column + 1],
                        s[2 * row + 1][2 * column], s[2 * row + 1][2 * column + 1], below, right);
      }
    }
    __syncthreads();
    if (mine) {
#pragma unroll
      for (int m = 0; m <= K; ++m) {
        square[m][row][column] = means[m];
        if (y < level.height && x < level.width) *pixel_of(level, m, batch, y, x) = means[m];
      }
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
