// The sums of the windows that are open in a column of the one-pass loss, and what a complete
// window gives.
#pragma once

#include "common/attributes.h"
#include "common/similarity.h"
#include "cuda/loss/part.h"

namespace fastmef {

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

// sum_k gamma_k SSIM and its derivatives w.r.t. E[F], E[F^2] and every E[F I_k].
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
    derivatives[0] += gamma[k] * s.grad_mean;
    derivatives[1] += gamma[k] * s.grad_second_moment;
    derivatives[2 + k] = gamma[k] * s.grad_cross;
  }
  return value;
}

}  // namespace fastmef
