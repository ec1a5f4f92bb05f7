// The weighted SSIM loss of all scales and its gradient w.r.t. F or the logits behind it, in one
// launch of blocks that march down the levels.
//
//   L = 1 - sum_s scale_s mean_p sum_k gamma_k(p) SSIM(F, I_k)(p)
//   dL/dF = w * grad_mean + 2 F (w * grad_second_moment) + sum_k I_k (w * grad_cross_k)
//
// A block handles a strip of columns and a chunk of rows, a thread handles one column. For every
// two new rows of pixels a thread computes F and dF / dlogits, stores them in shared memory,
// filters products of the rows along x, and adds the results to the incomplete windows of its
// column. These are sums in registers, which move on by two windows (out[j] = in[j + 2] + tap * x +
// tap' * x', two instructions and no move). From the windows that the rows complete it computes
// SSIM, gamma and derivatives. The derivatives are filtered along x through shared memory and down
// the column by the same kind of sums, which gives the gradient of the pixels ten rows further up.
// Each input is read once, except for the halo of ten pixels around the blocks, and only the
// gradient is written.
//
// levels.cu computes the images of the coarser levels. The blocks of coarser levels have the lower
// numbers, because the gradient of the finest level contains theirs: its blocks wait for them
// before they write the first row. A GPU starts blocks of lower numbers earlier, so that this ends.
// The last block to finish adds up the sums.
//
// The kernels handle two or three exposures: the (4 + 4 K) * 10 sums of a thread stay in registers.
// Four exposures need all 255 registers and spill, five have 240 sums; Triton's two passes handle
// those.

#include "cuda/loss/plan.h"
#include "cuda/loss/window.h"
#include "cuda/runtime/checks.h"

namespace fastmef {
namespace {

// Returns the weight of a pixel in a pixel of the next level, along one axis: 1/2, or 1 if its
// partner is beyond the border. `at` is the pixel of the next level, whose size is `size`, and
// `finer_size` is the size of this level.
__device__ __forceinline__ float halving_weight(int at, int size, int finer_size) {
  return at == size - 1 && finer_size % 2 ? 1.0f : 0.5f;
}

// Returns the gradient w.r.t. F at pixel (y, x) of the finest level through the coarser levels. The
// stored gradients of these already contain the weights of their last halving.
__device__ __forceinline__ float from_coarser(const LossArgs& a, int batch, int y, int x) {
  float sum = 0.0f;
  for (int l = a.levels - 1; l > 0; --l) {
    const Level& level = a.level[l];
    const int row = y >> l, column = x >> l;
    if (l < a.levels - 1) {
      sum *= halving_weight(row, level.height, a.level[l - 1].height) *
             halving_weight(column, level.width, a.level[l - 1].width);
    }
    if (level.blocks) {
      const float* from = static_cast<const float*>(level.gradient.data);
      sum += __ldcg(from + offset(level.gradient, batch, row, column));
    }
  }
  return sum;
}

// Waits until all blocks of coarser levels have finished and their gradients can be read.
__device__ __forceinline__ void wait_for_coarser(const LossArgs& a) {
  if (threadIdx.x == 0) {
    const volatile unsigned* done = a.counters;
    while (*done < static_cast<unsigned>(a.level[0].first)) __nanosleep(100);
    __threadfence();
  }
  __syncthreads();
}

// Computes tile p of level l and returns this thread's part of the sum of SSIM.
template <bool FromLogits, int K, bool Common, class Memory>
__device__ __forceinline__ float march(const LossArgs& a, int l, const Tile& p, Memory& rows) {
  const int t = threadIdx.x;
  const Level& level = a.level[l];
  const float (&shifts)[K + 1] = rows.shifts;
  float open[2 + 3 * K][kHalo] = {};     // windows of moments
  float open_pixels[2 + K][kHalo] = {};  // pixels of derivatives
  float sum = 0.0f, lost = 0.0f;         // what rounding takes from the sum is added again
  const bool with_gradient = level.gradient.data != nullptr;
  const int last = (with_gradient ? p.r1 : p.a1) + kHalo;
  if (t < kHalo) {
    const float2 none[2 + K] = {};
    rows.derivatives.store(t, none);
  }
  int slot = 0;
  // If there are enough registers, rows are read one step ahead and offsets are kept.
  constexpr bool kAhead = Common || K == 2;
  Pair<FromLogits, K> next;
  int64_t from_exposures = offset(level.exposures, p.batch, p.a0, p.x);
  int64_t from_source = offset(level.source, p.batch, p.a0, p.x);
  int64_t to = offset(level.gradient, p.batch, p.a0 - kHalo, p.x);
  if (kAhead) next.template read<Common>(level, from_exposures, from_source, p.loads, p.a0);
  bool waits = l == 0 && level.first > 0;
  for (int y = p.a0; y < last; y += 2) {
    const int w = y - kHalo;  // the first of the two rows of windows that are complete
    if (y < level.height) {
      if (!kAhead) {
        next.template read<Common>(level, offset(level.exposures, p.batch, y, p.x),
                                   offset(level.source, p.batch, y, p.x), p.loads, y);
      }
      float fused[2], exposures[2][K], slopes[2][kSlopes<K>];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        Pixel<FromLogits, K>& pixel = next.rows[r];
        const float f = pixel.fuse();
        fused[r] = p.loads ? f - shifts[0] : 0.0f;
#pragma unroll
        for (int k = 0; k < K; ++k) {
          exposures[r][k] = p.loads ? pixel.exposures[k] - shifts[k + 1] : 0.0f;
        }
        if constexpr (FromLogits) pixel.slopes(f, slopes[r]);
      }
      rows.fused[slot].store(t, {{fused[0], fused[1]}});
      float2 pairs[K];
#pragma unroll
      for (int k = 0; k < K; ++k) pairs[k] = {exposures[0][k], exposures[1][k]};
      rows.exposures[slot].store(t, pairs);
      if constexpr (FromLogits) {
        float2 both_slopes[kSlopes<K>];
#pragma unroll
        for (int k = 0; k < kSlopes<K>; ++k) both_slopes[k] = {slopes[0][k], slopes[1][k]};
        rows.slopes[slot].store(t, both_slopes);
      }
      from_exposures += 2 * level.exposures.row;
      from_source += 2 * level.source.row;
      if (kAhead) next.template read<Common>(level, from_exposures, from_source, p.loads, y + 2);
    }
    __syncthreads();
    float derivatives[2][2 + K] = {};
    if (p.has_window && y < level.height) {
      float2 along[2 + 3 * K] = {};
#pragma unroll
      for (int i = 0; i < kWindow; ++i) {
        float2 f[1], e[K];
        rows.fused[slot].load(t + i, f);
        rows.exposures[slot].load(t + i, e);
        const float2 weighted = {a.taps[i] * f[0].x, a.taps[i] * f[0].y};
        along[0].x += weighted.x;
        along[0].y += weighted.y;
        along[1].x += weighted.x * f[0].x;
        along[1].y += weighted.y * f[0].y;
#pragma unroll
        for (int k = 0; k < K; ++k) {
          const float2 weighted_e = {a.taps[i] * e[k].x, a.taps[i] * e[k].y};
          along[2 + 3 * k].x += weighted_e.x;
          along[2 + 3 * k].y += weighted_e.y;
          along[3 + 3 * k].x += weighted_e.x * e[k].x;
          along[3 + 3 * k].y += weighted_e.y * e[k].y;
          along[4 + 3 * k].x += weighted_e.x * f[0].x;
          along[4 + 3 * k].y += weighted_e.y * f[0].y;
        }
      }
      float moments[2][2 + 3 * K];
#pragma unroll
      for (int m = 0; m < 2 + 3 * K; ++m) {
        const float2 done = push<true>(open[m], a.taps, along[m]);
        moments[0][m] = done.x;
        moments[1][m] = done.y;
      }
      if (w >= p.a0) {
        float weights[2][K];
        // The windows' centres lie in rows w + 5 and w + 6, the pairs before them 3 and 2 slots
        // back.
        const int above = slot >= 3 ? slot - 3 : slot + kPairs - 3;
        Centres at[K];
        find_centres(rows, above, Common || (a.attributes & kGradient), at);
#pragma unroll
        for (int k = 0; k < K; ++k) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            weights[r][k] = importance<Common>(a, moments[r][2 + 3 * k], moments[r][3 + 3 * k],
                                               at[k].magnitude[r], at[k].value[r] + shifts[k + 1]);
          }
        }
        float value = 0.0f;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          if (r == 0 || w + 1 < level.height - kHalo) {
            value += compare<Common>(a, shifts, moments[r], weights[r], derivatives[r]);
          }
        }
        if (p.counts && w >= p.r0) {
          const float wanted = value - lost;
          const float now = sum + wanted;
          lost = (now - sum) - wanted;
          sum = now;
        }
      }
    }
    if (with_gradient && w >= p.a0) {
      float2 window_derivatives[2 + K];
#pragma unroll
      for (int m = 0; m < 2 + K; ++m)
        window_derivatives[m] = {derivatives[0][m], derivatives[1][m]};
      rows.derivatives.store(t + kHalo, window_derivatives);
      __syncthreads();
      if (waits && w >= p.r0) {
        wait_for_coarser(a);
        waits = false;
      }
      if (p.owns) {
        float2 along[2 + K] = {}, grad_moments[2 + K];
#pragma unroll
        for (int i = 0; i < kWindow; ++i) {
          float2 d[2 + K];
          rows.derivatives.load(t + kHalo - i, d);
#pragma unroll
          for (int m = 0; m < 2 + K; ++m) {
            along[m].x += a.taps[i] * d[m].x;
            along[m].y += a.taps[i] * d[m].y;
          }
        }
#pragma unroll
        for (int m = 0; m < 2 + K; ++m) {
          grad_moments[m] = push<false>(open_pixels[m], a.taps, along[m]);
        }
        if (w >= p.r0) {
          const int oldest = slot >= kHalo / 2 ? slot - kHalo / 2 : slot + kPairs - kHalo / 2;
          float2 f[1], e[K], slopes[FromLogits ? kSlopes<K> : 1];
          rows.fused[oldest].load(t, f);
          rows.exposures[oldest].load(t, e);
          if constexpr (FromLogits) rows.slopes[oldest].load(t, slopes);
          float2 grad_fused = {grad_moments[0].x + f[0].x * grad_moments[1].x,
                               grad_moments[0].y + f[0].y * grad_moments[1].y};
#pragma unroll
          for (int k = 0; k < K; ++k) {
            grad_fused.x += e[k].x * grad_moments[2 + k].x;
            grad_fused.y += e[k].y * grad_moments[2 + k].y;
          }
          float scale = 2.0f * level.gradient_scale;
          float coarser = 0.0f;
          if (l > 0) {
            scale *= halving_weight(p.x, level.width, a.level[l - 1].width);
          } else if (level.first > 0) {
            coarser = from_coarser(a, p.batch, w, p.x);  // of both rows: w is even
          }
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            if (r == 1 && w + 1 >= p.r1) break;
            float grad = (r ? grad_fused.y : grad_fused.x) * scale + coarser;
            if (l > 0) grad *= halving_weight(w + r, level.height, a.level[l - 1].height);
#pragma unroll
            for (int k = 0; k < (FromLogits ? K : 1); ++k) {
              float result[1] = {grad};
              if constexpr (FromLogits) {
                const float2 slope = slopes[K == 2 ? 0 : k];
                result[0] *= r ? slope.y : slope.x;
                if (K == 2 && k == 1) result[0] = -result[0];
              }
              const int64_t at = (kAhead ? to : offset(level.gradient, p.batch, w, p.x)) +
                                 r * level.gradient.row + k * level.gradient.layer;
              if constexpr (Common) {
                static_cast<float*>(level.gradient.data)[at] = result[0];
              } else {
                store_float_run(result, level.gradient.data, level.gradient.dtype, at);
              }
            }
          }
        }
      }
    }
    to += 2 * level.gradient.row;
    slot = slot + 1 < kPairs ? slot + 1 : 0;
  }
  return sum - lost;
}

// Adds up the blocks' sums to the value, in the block that finishes last.
__device__ __forceinline__ void finish(const LossArgs& a, double mine, double* memory,
                                       unsigned* turn, bool coarser) {
  const int t = threadIdx.x;
  // The barriers inside also ensure that the block has written its whole gradient.
  const double sum = sum_of_block(memory, mine);
  if (t == 0) {
    a.partials[blockIdx.x] = sum;
    __threadfence();
    if (coarser) atomicAdd(a.counters, 1u);
    *turn = atomicAdd(a.counters + 1, 1u);
  }
  __syncthreads();
  if (*turn != gridDim.x - 1) return;
  __threadfence();
  double part = 0.0;
  for (int i = t; i < static_cast<int>(gridDim.x); i += static_cast<int>(blockDim.x)) {
    part += __ldcg(a.partials + i);
  }
  const double total = sum_of_block(memory, part);
  if (t == 0) *a.value = static_cast<float>(1.0 - total);
}

// Handles this block, which belongs to level l.
template <bool FromLogits, int K, bool Common>
__device__ __forceinline__ void handle(const LossArgs& a, int l, float4* memory) {
  Rows<FromLogits, K>& rows = *reinterpret_cast<Rows<FromLogits, K>*>(memory);
  const Level& level = a.level[l];
  const Tile p = tile_of(level, static_cast<int>(blockIdx.x) - level.first);
  sample_means<Common>(level, p, rows);
  const float sum = march<FromLogits, K, Common>(a, l, p, rows);
  __syncthreads();  // the rows' memory is free
  finish(a, static_cast<double>(sum) * level.weight, reinterpret_cast<double*>(rows.exposures),
         &rows.turn, l > 0);
}

template <bool FromLogits, int K, bool Common>
__global__ void __launch_bounds__(kMostThreads<K>, 1)
    loss_kernel(const __grid_constant__ LossArgs a) {
  FASTMEF_DYNAMIC_SHARED(memory);
  int l = 0;
  while (static_cast<int>(blockIdx.x) < a.level[l].first) ++l;
  if (l == 0) {
    handle<FromLogits, K, Common>(a, 0, memory);
  } else {
    handle<false, K, Common>(a, l, memory);
  }
}

// bench/machine_code/cuda_kernels.py computes the occupancy from these numbers.
static_assert(kMostThreads<2> == 256 && kMostThreads<3> == 192, "threads have changed");
static_assert(sizeof(Rows<false, 2>) == 52000 && sizeof(Rows<true, 2>) == 66224, "sizes changed");
static_assert(sizeof(Rows<false, 3>) == 51456 && sizeof(Rows<true, 3>) == 83488, "sizes changed");

template <bool FromLogits, int K, bool Common>
void run(const LossArgs& a, const DeviceAndStream& on) {
  // The finest level needs the most shared memory for its rows.
  launch("fusion_loss", loss_kernel<FromLogits, K, Common>, a, a.blocks, a.threads, on,
         sizeof(Rows<FromLogits, K>));
}

template <bool FromLogits, int K>
void run(const LossArgs& a, const DeviceAndStream& on) {
  is_common(a) ? run<FromLogits, K, true>(a, on) : run<FromLogits, K, false>(a, on);
}

template <bool FromLogits>
void run(const LossArgs& a, const DeviceAndStream& on) {
  a.count == 2 ? run<FromLogits, 2>(a, on) : run<FromLogits, 3>(a, on);
}

}  // namespace

bool is_common(const LossArgs& a) {
  const Level& finest = a.level[0];
  for (const Stack* x : {&finest.source, &finest.exposures, &finest.gradient}) {
    if (x->data && x->dtype != kFloat32) return false;
  }
  return a.attributes == (kVariance | kGradient) && !a.luminance;
}

int64_t loss_workspace(int64_t batch, int count, int64_t height, int64_t width, int levels) {
  LossCall call{};
  call.batch = batch;
  call.count = count;
  call.height = height;
  call.width = width;
  call.levels = levels;
  for (float& scale : call.scales) scale = 1.0f;
  int64_t size = 0;
  plan(call, size);
  return size;
}

void fusion_loss(const LossCall& call, const DeviceAndStream& on) {
  const char* name = "fusion_loss";
  int64_t size = 0;
  const LossArgs args = plan(call, size);
  for (const Stack* x : {&call.source, &call.exposures, &call.gradient}) {
    if (x->data && !is_single_float(x->dtype)) {
      refuse(name, "tensors must be float32, float16 or bfloat16");
    }
  }
  if (!(call.scales[0] > 0.0f)) refuse(name, "the first scale must be positive");
  const Sizes images = {call.batch, call.count, 1, call.height, call.width};
  Sizes source = images;
  if (!call.from_logits) source[1] = 1;
  Arrays arrays(name);
  arrays.read("source", call.source, source);
  arrays.read("exposures", call.exposures, images);
  arrays.written("gradient", call.gradient, source);
  arrays.written("workspace", dense(call.workspace, kFloat64), {1, 1, 1, 1, size});
  arrays.written("value", dense(call.value, kFloat32), {1, 1, 1, 1, 1});
  prepare_levels(args, on);
  call.from_logits ? run<true>(args, on) : run<false>(args, on);
}

}  // namespace fastmef
