// Positions and weights of full-size pixels in the levels of the pyramid of 2x2 means.
//
// A level has ceil(size / 2) samples of the next finer one; an odd last sample is repeated. So
// sample i of level s is a weighted mean of the samples [i << s, (i + 1) << s) that exist at full
// size.
#pragma once

#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

// Returns the first full-size sample in sample `index` of a level.
inline int64_t base_begin(int64_t index, int level, int64_t base_size) {
  if (level >= 31) return index > 0 ? base_size : 0;
  const int64_t begin = index << level;
  return begin < base_size ? begin : base_size;
}

// Returns the weight of full-size sample `index` in its sample of a level.
inline double base_weight(int64_t index, int level, int64_t base_size) {
  double weight = 1.0;
  int64_t size = base_size;
  for (int s = 0; s < level; ++s) {
    const bool repeated = index % 2 == 0 && index + 1 >= size;
    if (!repeated) weight *= 0.5;
    index /= 2;
    size = (size + 1) / 2;
  }
  return weight;
}

// Computes means of neighbouring pairs; a last sample without a partner is copied. Returns the new
// length.
template <class T>
int64_t halve_row(const T* FASTMEF_RESTRICT in, int64_t n, T* FASTMEF_RESTRICT out) {
  const int64_t pairs = n / 2;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < pairs; ++x) out[x] = T(0.5) * (in[2 * x] + in[2 * x + 1]);
  if (n % 2) out[pairs] = in[n - 1];
  return pairs + n % 2;
}

// Computes the backward pass of halve_row; `n` is the length of `out`.
template <class T>
void halve_row_backward(const T* FASTMEF_RESTRICT in, int64_t n, T* FASTMEF_RESTRICT out) {
  const int64_t pairs = n / 2;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < pairs; ++x) {
    const T half = T(0.5) * in[x];
    out[2 * x] = half;
    out[2 * x + 1] = half;
  }
  if (n % 2) out[n - 1] = in[pairs];
}

}  // namespace
}  // namespace fastmef
