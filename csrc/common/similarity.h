// SSIM of two images F and I in one window, and its derivatives w.r.t. their moments.
#pragma once

#include "common/math.h"

namespace fastmef {

template <class T>
struct Similarity {
  T value;
  T grad_mean;           // d value / d E[F]
  T grad_mean_i;         // d value / d E[I]
  T grad_second_moment;  // d value / d E[F^2] and d E[I^2]
  T grad_cross;          // d value / d E[F I]
};

// The moments are those of F - shift_f and I - shift_i. Constants do not change variances and
// covariance; with constants near the local values E[x^2] - E[x]^2 loses no precision by
// cancellation.
template <class T, bool Luminance>
FASTMEF_HD Similarity<T> similarity(T mean_f, T mean_i, T second_moment_f, T second_moment_i,
                                    T cross, T shift_f, T shift_i, T c1, T c2) {
  const T denominator =
      (second_moment_f - mean_f * mean_f) + (second_moment_i - mean_i * mean_i) + c2;
  const T inverse = reciprocal(denominator);
  const T structure = (2 * (cross - mean_f * mean_i) + c2) * inverse;
  Similarity<T> out;
  out.value = structure;
  out.grad_cross = 2 * inverse;
  out.grad_second_moment = -structure * inverse;
  out.grad_mean = 2 * inverse * (mean_f * structure - mean_i);
  out.grad_mean_i = 2 * inverse * (mean_i * structure - mean_f);
  if (Luminance) {
    const T f = mean_f + shift_f;
    const T i = mean_i + shift_i;
    const T luminance_inverse = reciprocal(f * f + i * i + c1);
    const T luminance = (2 * f * i + c1) * luminance_inverse;
    out.value = structure * luminance;
    out.grad_cross *= luminance;
    out.grad_second_moment *= luminance;
    out.grad_mean =
        out.grad_mean * luminance + structure * 2 * luminance_inverse * (i - f * luminance);
    out.grad_mean_i =
        out.grad_mean_i * luminance + structure * 2 * luminance_inverse * (f - i * luminance);
  }
  return out;
}

}  // namespace fastmef
