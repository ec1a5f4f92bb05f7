// The weighted SSIM loss and its gradient w.r.t. F or the logits behind it, in one march down the
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
//
// Two or three exposures: the (4 + 4 K) * 10 open sums of a thread stay in registers. Four need all
// 255 and spill, five have 240 sums alone; Triton's two passes serve those.

#include "cuda/loss/window.h"
#include "cuda/runtime/checks.h"

namespace fastmef {
namespace {

constexpr int kFinishers = 256;

// Blocks that a multiprocessor should hold. A third one with two exposures leaves 168 registers,
// which is enough for nvcc 13; compilers before it would spill.
#if defined(__CUDACC_VER_MAJOR__) && __CUDACC_VER_MAJOR__ < 13
template <int K>
constexpr int kBlocks = 2;
#else
template <int K>
constexpr int kBlocks = K == 2 ? 3 : 2;
#endif

template <bool FromLogits, int K>
__global__ void __launch_bounds__(kColumns, kBlocks<K>) loss_kernel(const LossArgs a) {
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
        float grad_moments[2 + K];
#pragma unroll
        for (int m = 0; m < 2 + K; ++m) {
          float along = 0.0f;
#pragma unroll
          for (int i = 0; i < kWindow; ++i) along += a.taps[i] * rows.spread[m][t - i];
          grad_moments[m] = push<false>(spread[m], a.taps, along);
        }
        if (w >= p.r0) {
          const float f = rows.planes[oldest][0][t];
          float grad_fused = grad_moments[0] + 2.0f * f * grad_moments[1];
#pragma unroll
          for (int k = 0; k < K; ++k)
            grad_fused += rows.planes[oldest][k + 1][t] * grad_moments[2 + k];
          grad_fused *= a.gradient_scale;
          const int64_t to = offset(a.gradient, p, w);
#pragma unroll
          for (int k = 0; k < (FromLogits ? K : 1); ++k) {
            float result[1] = {grad_fused};
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
  } else {
    launch("fusion_loss", loss_kernel<FromLogits, 3>, a, blocks, kColumns, place);
  }
}

void check_size(int64_t batch, int64_t height, int64_t width) {
  const char* name = "fusion_loss";
  check_sizes(name, {batch, 1, 1, height, width});
  if (height < kWindow || width < kWindow) {
    refuse(name, "images of at least 11 x 11 pixels, got " + std::to_string(height) + " x " +
                     std::to_string(width));
  }
  if (height > INT32_MAX - kColumns || width > INT32_MAX - kColumns) {
    refuse(name, "images of less than 2^31 rows and columns");
  }
}

}  // namespace

int64_t loss_blocks(int64_t batch, int64_t height, int64_t width) {
  check_size(batch, height, width);
  LossArgs args{};
  args.batch = batch;
  args.height = height;
  args.width = width;
  divide(args);
  return batch * args.strips * args.chunks;
}

void fusion_loss(LossArgs args, const Place& place) {
  const char* name = "fusion_loss";
  check_size(args.batch, args.height, args.width);
  if (args.count != 2 && args.count != 3) {
    refuse(name, "2 or 3 exposures, got " + std::to_string(args.count));
  }
  for (const Stack* x : {&args.source, &args.exposures, &args.gradient}) {
    if (x->data && !is_single_float(x->dtype)) {
      refuse(name, "tensors must be float32, float16 or bfloat16");
    }
  }
  divide(args);
  const int64_t blocks = args.batch * args.strips * args.chunks;
  const Sizes images = {args.batch, args.count, 1, args.height, args.width};
  Sizes source = images;
  if (!args.from_logits) source[1] = 1;
  Arrays arrays(name);
  arrays.read("source", args.source, source);
  arrays.read("exposures", args.exposures, images);
  arrays.written("gradient", args.gradient, source);
  arrays.written("partials", dense(args.partials, kFloat64), {1, 1, 1, 1, blocks});
  arrays.written("value", dense(args.value, kFloat32), {1, 1, 1, 1, 1});
  args.from_logits ? run<true>(args, place) : run<false>(args, place);
  launch(name, finish_kernel, args, 1, kFinishers, place);
}

}  // namespace fastmef
