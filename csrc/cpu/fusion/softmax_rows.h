// Softmax over the exposures and their weighted sum, for a row of pixels.
#pragma once

#include "common/softmax.h"
#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

// Computes weights[k][x], the softmax over k of logits[k][x].
template <class T>
void softmax_row(const T* const* logits, int count, int64_t n, T* const* weights,
                 T* FASTMEF_RESTRICT highest, T* FASTMEF_RESTRICT total) {
  if (count == 2) {
    const T* FASTMEF_RESTRICT l0 = logits[0];
    const T* FASTMEF_RESTRICT l1 = logits[1];
    T* FASTMEF_RESTRICT w0 = weights[0];
    T* FASTMEF_RESTRICT w1 = weights[1];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) softmax_of_two(l0[x], l1[x], w0[x], w1[x]);
    return;
  }
  for (int64_t x = 0; x < n; ++x) highest[x] = logits[0][x];
  for (int k = 1; k < count; ++k) {
    const T* FASTMEF_RESTRICT l = logits[k];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) highest[x] = larger(highest[x], l[x]);
  }
  for (int64_t x = 0; x < n; ++x) total[x] = 0;
  for (int k = 0; k < count; ++k) {
    const T* FASTMEF_RESTRICT l = logits[k];
    T* FASTMEF_RESTRICT w = weights[k];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      w[x] = exp_nonpositive(l[x] - highest[x]);
      total[x] += w[x];
    }
  }
  for (int64_t x = 0; x < n; ++x) total[x] = T(1) / total[x];
  for (int k = 0; k < count; ++k) {
    T* FASTMEF_RESTRICT w = weights[k];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) w[x] *= total[x];
  }
}

// Computes fused[x] = sum_k weights[k][x] exposures[k][x].
template <class T>
void weighted_sum_row(const T* const* weights, const T* const* exposures, int count, int64_t n,
                      T* FASTMEF_RESTRICT fused) {
  for (int64_t x = 0; x < n; ++x) fused[x] = 0;
  for (int k = 0; k < count; ++k) {
    const T* FASTMEF_RESTRICT w = weights[k];
    const T* FASTMEF_RESTRICT e = exposures[k];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) fused[x] += w[x] * e[x];
  }
}

}  // namespace
}  // namespace fastmef
