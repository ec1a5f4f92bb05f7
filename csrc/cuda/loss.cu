// The weighted SSIM loss and its gradient by F or the logits behind it, in one march down the
// image.
//
//   L = 1 - mean_p sum_k gamma_k(p) SSIM(F, I_k)(p)
//   dL/dF = w * d_mean + 2 F (w * d_power) + sum_k I_k (w * d_cross_k)
//
// A block owns a strip of columns and a chunk of rows, a thread one column. For each new row of
// pixels it forms the weights and F, keeps them in shared memory, filters the products of the row
// along it, and adds the result to the eleven windows that are open in its column: sums in
// registers, moved on by one window with every row (out[j] = in[j + 1] + tap * x, which is one
// instruction and no move). The window that the row completes gives SSIM, gamma and derivatives;
// those go through shared memory along the row, through the same kind of sums down the column, and
// leave as the gradient of the row of pixels ten rows further up. Each input is read once but for
// the halo of ten pixels around the blocks, and nothing but the gradient is written.

#include "../common/attributes.h"
#include "../common/similarity.h"
#include "../common/softmax.h"
#include "loss.h"
#include "runs.h"

namespace fastmef {
namespace {

constexpr int kHalo = kWindow - 1;
constexpr int kColumns = 128;               // threads of a block
constexpr int kOwn = kColumns - 2 * kHalo;  // the most columns whose gradient it makes
constexpr int kFinishers = 256;

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

// Adds x to the sums that are open, moves them on, and returns the one that is complete. The
// window `last` rows away gets taps[last].
template <bool Forward>
__device__ __forceinline__ float push(float (&open)[kHalo], const float (&taps)[kWindow], float x) {
  const float done = open[0] + taps[Forward ? kHalo : 0] * x;
#pragma unroll
  for (int j = 1; j < kHalo; ++j) open[j - 1] = open[j] + taps[Forward ? kHalo - j : j] * x;
  open[kHalo - 1] = taps[Forward ? 0 : kHalo] * x;
  return done;
}

// The sum over the threads, in an order that depends on their number alone; threads: a power of 2.
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

// gamma_k at the window of this thread that begins in row w, from the moments of the exposures.
template <bool FromLogits, int K>
__device__ __forceinline__ void weigh(const LossArgs& a, const Rows<FromLogits, K>& rows, int w,
                                      const float (&moments)[2 + 3 * K], float (&gamma)[K]) {
  const int centre = threadIdx.x + kWindow / 2;
  const int above = (w + kWindow / 2 - 1) % kWindow;
  const int at = above + 1 < kWindow ? above + 1 : above + 1 - kWindow;
  const int below = at + 1 < kWindow ? at + 1 : at + 1 - kWindow;
  float total = 0.0f;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    float importance = 1.0f;
    if (a.attributes & kVariance) {
      importance = local_variance(moments[2 + 3 * k], moments[3 + 3 * k], a.floor);
    }
    const float* r0 = rows.planes[above][k + 1] + centre;
    const float* r1 = rows.planes[at][k + 1] + centre;
    const float* r2 = rows.planes[below][k + 1] + centre;
    if (a.attributes & kGradient) {
      importance *=
          square_root(sobel_squared(r0[-1], r0[0], r0[1], r1[-1], r1[1], r2[-1], r2[0], r2[1]));
    }
    if (a.attributes & kWellExposedness) importance *= well_exposedness(r1[0] + rows.shifts[k + 1]);
    gamma[k] = importance;
    total += importance;
  }
  const float inverse = 1.0f / (total + a.eps);
#pragma unroll
  for (int k = 0; k < K; ++k) gamma[k] *= inverse;
}

// sum_k gamma_k SSIM and its derivatives by E[F], E[F^2] and every E[F I_k].
template <bool Luminance, int K>
__device__ __forceinline__ float compare(const LossArgs& a, const float (&shifts)[K + 1],
                                         const float (&moments)[2 + 3 * K], const float (&gamma)[K],
                                         float (&derivatives)[2 + K]) {
  float value = 0.0f;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const Similarity<float> s =
        similarity<float, Luminance>(moments[0], moments[2 + 3 * k], moments[1], moments[3 + 3 * k],
                                     moments[4 + 3 * k], shifts[0], shifts[k + 1], a.c1, a.c2);
    value += gamma[k] * s.value;
    derivatives[0] += gamma[k] * s.by_mean;
    derivatives[1] += gamma[k] * s.by_power;
    derivatives[2 + k] = gamma[k] * s.by_cross;
  }
  return value;
}

template <bool FromLogits, int K>
__global__ void __launch_bounds__(kColumns, K == 2 ? 3 : 2) loss_kernel(const LossArgs a) {
  __shared__ Rows<FromLogits, K> rows;
  const int t = threadIdx.x;
  const Part p = part_of(a);
  sample_means(a, p, rows);
  const float (&shifts)[K + 1] = rows.shifts;

  float open[2 + 3 * K][kHalo] = {};  // windows of moments
  float spread[2 + K][kHalo] = {};    // pixels of derivatives
  float sum = 0.0f, lost = 0.0f;      // what rounding takes from the sum is added again
  const bool with_gradient = a.gradient.data != nullptr;
  const int last = (with_gradient ? p.r1 : p.a1) + kHalo;
  int slot = p.a0 % kWindow;
  Pixel<FromLogits, K> next;
  next.read(a, p, p.a0);
  for (int y = p.a0; y < last; ++y) {
    const int w = y - kHalo;                               // the row of windows that is complete
    const int oldest = slot + 1 < kWindow ? slot + 1 : 0;  // the slot of pixel row w
    Pixel<FromLogits, K> pixel = next;
    next.read(a, p, y + 1);
    if (y < a.height) {
      rows.planes[slot][0][t] = p.loads ? pixel.fuse() - shifts[0] : 0.0f;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        rows.planes[slot][k + 1][t] = p.loads ? pixel.exposures[k] - shifts[k + 1] : 0.0f;
        if (FromLogits) rows.weights[slot][k][t] = pixel.source[k];
      }
    }
    __syncthreads();
    float derivatives[2 + K] = {};
    if (y < a.height && p.has_window) {
      float along[2 + 3 * K] = {};
#pragma unroll
      for (int i = 0; i < kWindow; ++i) {
        const float f = rows.planes[slot][0][t + i];
        const float weighted = a.taps[i] * f;
        along[0] += weighted;
        along[1] += weighted * f;
#pragma unroll
        for (int k = 0; k < K; ++k) {
          const float e = rows.planes[slot][k + 1][t + i];
          const float weighted_e = a.taps[i] * e;
          along[2 + 3 * k] += weighted_e;
          along[3 + 3 * k] += weighted_e * e;
          along[4 + 3 * k] += weighted_e * f;
        }
      }
      float moments[2 + 3 * K];
#pragma unroll
      for (int m = 0; m < 2 + 3 * K; ++m) moments[m] = push<true>(open[m], a.taps, along[m]);
      if (w >= p.a0) {
        float gamma[K];
        weigh(a, rows, w, moments, gamma);
        const float value = a.luminance ? compare<true>(a, shifts, moments, gamma, derivatives)
                                        : compare<false>(a, shifts, moments, gamma, derivatives);
        if (p.counts && w >= p.r0 && w < p.r1) {
          const float wanted = value - lost;
          const float now = sum + wanted;
          lost = (now - sum) - wanted;
          sum = now;
        }
      }
    }
    if (with_gradient && w >= p.a0) {
#pragma unroll
      for (int m = 0; m < 2 + K; ++m) rows.spread[m][t] = derivatives[m];
      __syncthreads();
      if (p.owns) {
        float by_moments[2 + K];
#pragma unroll
        for (int m = 0; m < 2 + K; ++m) {
          float along = 0.0f;
#pragma unroll
          for (int i = 0; i < kWindow; ++i) along += a.taps[i] * rows.spread[m][t - i];
          by_moments[m] = push<false>(spread[m], a.taps, along);
        }
        if (w >= p.r0) {
          const float f = rows.planes[oldest][0][t];
          float by_fused = by_moments[0] + 2.0f * f * by_moments[1];
#pragma unroll
          for (int k = 0; k < K; ++k) by_fused += rows.planes[oldest][k + 1][t] * by_moments[2 + k];
          by_fused *= a.gradient_scale;
          const int64_t to = offset(a.gradient, p, w);
#pragma unroll
          for (int k = 0; k < (FromLogits ? K : 1); ++k) {
            float result[1] = {by_fused};
            if (FromLogits) {
              const float offset = shifts[k + 1] - shifts[0];
              result[0] *=
                  rows.weights[oldest][k][t] * (rows.planes[oldest][k + 1][t] - f + offset);
            }
            store_float_run(result, a.gradient.data, a.gradient.dtype, to + k * a.gradient.layer);
          }
        }
      }
    }
    slot = oldest;
  }
  const double total =
      sum_of_block(rows.sums, static_cast<double>(sum) - static_cast<double>(lost), kColumns);
  if (t == 0) a.partials[blockIdx.x] = total;
}

// 1 - the mean, from the sums of the blocks.
__global__ void __launch_bounds__(kFinishers) finish_kernel(const LossArgs a) {
  __shared__ double sums[kFinishers];
  const int64_t blocks = a.batch * a.strips * a.chunks;
  double mine = 0.0;
  for (int64_t i = threadIdx.x; i < blocks; i += kFinishers) mine += a.partials[i];
  const double total = sum_of_block(sums, mine, kFinishers);
  const double windows = static_cast<double>(a.batch) * static_cast<double>(a.height - kHalo) *
                         static_cast<double>(a.width - kHalo);
  if (threadIdx.x == 0) *a.value = static_cast<float>(1.0 - total / windows);
}

// Strips are of one width. Chunks are long, because each repeats 20 rows of its neighbours, but
// short enough for two blocks on every multiprocessor of a large GPU. By the shape alone: the order
// of sums must not depend on the GPU. Not timed on a GPU.
void divide(LossArgs& a) {
  a.strips = (a.width + kOwn - 1) / kOwn;
  a.columns = (a.width + a.strips - 1) / a.strips;
  a.rows = 128;
  while (a.rows > 32 && a.batch * a.strips * ((a.height + a.rows - 1) / a.rows) < 264) a.rows /= 2;
  a.chunks = (a.height + a.rows - 1) / a.rows;
}

template <bool FromLogits>
void run(const LossArgs& a, const Place& place) {
  const int64_t blocks = a.batch * a.strips * a.chunks;
  if (a.count == 2) {
    launch("fusion_loss", loss_kernel<FromLogits, 2>, a, blocks, kColumns, place);
  } else if (a.count == 3) {
    launch("fusion_loss", loss_kernel<FromLogits, 3>, a, blocks, kColumns, place);
  } else {
    throw std::invalid_argument("fusion_loss: 2 or 3 exposures, got " + std::to_string(a.count));
  }
}

}  // namespace

int64_t loss_blocks(int64_t batch, int64_t height, int64_t width) {
  LossArgs args{};
  args.batch = batch;
  args.height = height;
  args.width = width;
  divide(args);
  return batch * args.strips * args.chunks;
}

void fusion_loss(LossArgs args, const Place& place) {
  if (args.height < kWindow || args.width < kWindow) {
    throw std::invalid_argument("fusion_loss: images of at least 11 x 11 pixels, got " +
                                std::to_string(args.height) + " x " + std::to_string(args.width));
  }
  if (args.height > INT32_MAX - kColumns || args.width > INT32_MAX - kColumns) {
    throw std::invalid_argument("fusion_loss: images of less than 2^31 rows and columns");
  }
  for (const Stack* x : {&args.source, &args.exposures, &args.gradient}) {
    if (x->data && (x->dtype < kFloat16 || x->dtype > kFloat32)) {
      throw std::invalid_argument("fusion_loss: tensors must be float32, float16 or bfloat16");
    }
  }
  divide(args);
  args.from_logits ? run<true>(args, place) : run<false>(args, place);
  launch("fusion_loss", finish_kernel, args, 1, kFinishers, place);
}

}  // namespace fastmef
