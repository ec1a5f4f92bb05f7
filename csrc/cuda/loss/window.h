// The sums of incomplete windows in a column of the one-pass loss, and the values of a complete
// window.
#pragma once

#include "common/attributes.h"
#include "common/similarity.h"
#include "cuda/loss/tile.h"

namespace fastmef {

// Adds the values of two rows to the sums of incomplete windows, moves these on by two, and returns
// the two sums that are complete.
template <bool Forward>
__device__ __forceinline__ float2 push(float (&open)[kHalo], const float (&taps)[kWindow],
                                       float2 x) {
  const auto tap = [&](int j) { return taps[Forward ? kHalo - j : j]; };
  float2 done;
  done.x = open[0] + tap(0) * x.x;
  done.y = open[1] + tap(1) * x.x + tap(0) * x.y;
#pragma unroll
  for (int j = 2; j < kHalo; ++j) open[j - 2] = open[j] + tap(j) * x.x + tap(j - 1) * x.y;
  open[kHalo - 2] = tap(kHalo) * x.x + tap(kHalo - 1) * x.y;
  open[kHalo - 1] = tap(kHalo) * x.y;
  return done;
}

// The centres of two windows of this thread that follow each other down the column: Sobel
// magnitudes, and values minus their constant.
struct Centres {
  float magnitude[2], value[2];
};

// Computes the centres in the second row of slot `above` and the first row of the next slot.
template <bool FromLogits, int K>
__device__ __forceinline__ void find_centres(const Rows<FromLogits, K>& rows, int above,
                                             bool with_magnitude, Centres (&found)[K]) {
  const int below = above + 1 < kPairs ? above + 1 : 0;
  const int column = threadIdx.x + kWindow / 2;
  float2 a[3][K], b[3][K];
  // Three exposures are handled one after the other: all of them at once would spill.
  constexpr bool kTogether = K == 2;
  if (kTogether) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (i == 1 || with_magnitude) {
        rows.exposures[above].load(column + i - 1, a[i]);
        rows.exposures[below].load(column + i - 1, b[i]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (!kTogether) {
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        a[i][k] = rows.exposures[above].load_one(column + i - 1, k);
        b[i][k] = rows.exposures[below].load_one(column + i - 1, k);
      }
    }
    found[k] = {{1.0f, 1.0f}, {a[1][k].y, b[1][k].x}};
    if (with_magnitude) {
      const float2 a0 = a[0][k], a1 = a[1][k], a2 = a[2][k];
      const float2 b0 = b[0][k], b1 = b[1][k], b2 = b[2][k];
      found[k].magnitude[0] =
          fast_root(sobel_squared(a0.x, a1.x, a2.x, a0.y, a2.y, b0.x, b1.x, b2.x));
      found[k].magnitude[1] =
          fast_root(sobel_squared(a0.y, a1.y, a2.y, b0.x, b2.x, b0.y, b1.y, b2.y));
    }
  }
}

// Returns A_k of one window, from the moments of the exposure and the magnitude and value of the
// centre.
template <bool Common>
__device__ __forceinline__ float importance(const LossArgs& a, float mean, float second_moment,
                                            float magnitude, float value) {
  if constexpr (Common) {
    return local_variance(mean, second_moment, a.floor) * magnitude;
  } else {
    float product = 1.0f;
    if (a.attributes & kVariance) product = local_variance(mean, second_moment, a.floor);
    product *= magnitude;
    if (a.attributes & kWellExposedness) product *= well_exposedness(value);
    return product;
  }
}

// Returns sum_k gamma_k SSIM, gamma_k = A_k / (sum_j A_j + eps). `derivatives` are those w.r.t.
// 2 E[F], E[F^2] and every 2 E[F I_k], so that the gradient has a common factor of 2.
template <bool Common, int K>
__device__ __forceinline__ float compare(const LossArgs& a, const float (&shifts)[K + 1],
                                         const float (&moments)[2 + 3 * K],
                                         const float (&weights)[K], float (&derivatives)[2 + K]) {
  float total = a.eps, value = 0.0f;
#pragma unroll
  for (int k = 0; k < K; ++k) total += weights[k];
  const float inverse = reciprocal(total);
#pragma unroll
  for (int m = 0; m < 2; ++m) derivatives[m] = 0.0f;
  if (Common || !a.luminance) {
    const float mean_f = moments[0];
    const float base = moments[1] - mean_f * mean_f + a.c2;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const float mean_i = moments[2 + 3 * k];
      const float inverse_k = reciprocal(base + (moments[3 + 3 * k] - mean_i * mean_i));
      const float structure = (2.0f * (moments[4 + 3 * k] - mean_f * mean_i) + a.c2) * inverse_k;
      const float scaled = weights[k] * inverse_k;
      value += weights[k] * structure;
      derivatives[0] += scaled * (mean_f * structure - mean_i);
      derivatives[1] -= scaled * structure;
      derivatives[2 + k] = scaled * inverse;
    }
  } else {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const Similarity<float> s =
          similarity<float, true>(moments[0], moments[2 + 3 * k], moments[1], moments[3 + 3 * k],
                                  moments[4 + 3 * k], shifts[0], shifts[k + 1], a.c1, a.c2);
      const float half = 0.5f * weights[k];
      value += weights[k] * s.value;
      derivatives[0] += half * s.grad_mean;
      derivatives[1] += weights[k] * s.grad_second_moment;
      derivatives[2 + k] = half * s.grad_cross * inverse;
    }
  }
  derivatives[0] *= inverse;
  derivatives[1] *= inverse;
  return value * inverse;
}

}  // namespace fastmef
