// The arithmetic of a row of a band: luma, interpolation, and the sum over the exposures.
#pragma once

#include "common/knee.h"
#include "cpu/multiscale/rows.h"

namespace fastmef {
namespace {

template <int K>
struct Count {};

// Computes gray += coefficient * channel, or gray = coefficient * channel if `first` is true.
template <class S, class T>
void add_gray_as(const void* from, T coefficient, bool first, int64_t n, T* FASTMEF_RESTRICT gray) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(from);
  if (first) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) gray[x] = coefficient * to_number<T>(in[x]);
  } else {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) gray[x] += coefficient * to_number<T>(in[x]);
  }
}

template <class S, class T>
void gray_as(const void* red, const void* green, const void* blue, const T* coefficients, int64_t n,
             T* FASTMEF_RESTRICT gray) {
  const S* FASTMEF_RESTRICT r = static_cast<const S*>(red);
  const S* FASTMEF_RESTRICT g = static_cast<const S*>(green);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(blue);
  const T c0 = coefficients[0], c1 = coefficients[1], c2 = coefficients[2];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    gray[x] = c0 * to_number<T>(r[x]) + c1 * to_number<T>(g[x]) + c2 * to_number<T>(b[x]);
  }
}

// Computes out = (3 own + other) / 4 * scale.
template <class S, class T>
void between_as(const void* own, const void* other, T scale, int64_t n, T* FASTMEF_RESTRICT out) {
  const S* FASTMEF_RESTRICT a = static_cast<const S*>(own);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(other);
  const T near = T(0.75) * scale, far = T(0.25) * scale;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) out[x] = near * to_number<T>(a[x]) + far * to_number<T>(b[x]);
}

// Computes one channel of F from K exposures in one loop, the usual case.
template <class S, class T, class O, int K>
void mix_row(const void* const* fine, T scale, const T* weights, int64_t distance, const T* above,
             int64_t n, const Knee<T>& knee, O* FASTMEF_RESTRICT out) {
  const S* j[K];
  const T *w[K], *below[K];
  for (int k = 0; k < K; ++k) {
    j[k] = static_cast<const S*>(fine[k]);
    w[k] = weights + k * distance;
    below[k] = above + (k + 1) * distance;
  }
  const Knee<T> limits = knee;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    T sum = above[x];
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) sum += w[k][x] * (scale * to_number<T>(j[k][x]) - below[k][x]);
    from_number(compress(sum, limits), out[x]);
  }
}

template <class S, class T, int K>
void mix_finest_as(Count<K>, const void* const* fine, T scale, const T* weights, int64_t distance,
                   const T* above, int64_t n, const Knee<T>& knee, void* out) {
  mix_row<S, T, S, K>(fine, scale, weights, distance, above, n, knee, static_cast<S*>(out));
}

template <class S, class T, int K>
void mix_inner_as(Count<K>, const void* const* fine, T scale, const T* weights, int64_t distance,
                  const T* above, int64_t n, const Knee<T>& knee, void* out) {
  mix_row<S, T, T, K>(fine, scale, weights, distance, above, n, knee, static_cast<T*>(out));
}

// Computes sum += weight * (fine - below), for pixels with a mask above 0.
template <class S, class T>
void add_band_as(const void* fine, T scale, const T* FASTMEF_RESTRICT weight,
                 const T* FASTMEF_RESTRICT below, const T* FASTMEF_RESTRICT mask, int64_t n,
                 T* FASTMEF_RESTRICT sum) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(fine);
  if (!mask) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) sum[x] += weight[x] * (scale * to_number<T>(in[x]) - below[x]);
    return;
  }
  for (int64_t x = 0; x < n; ++x) {
    if (mask[x] > 0) sum[x] += weight[x] * (scale * to_number<T>(in[x]) - below[x]);
  }
}

}  // namespace
}  // namespace fastmef
