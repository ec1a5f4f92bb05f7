// Window filters along a row: out[x] = sum_j taps[j] in[x + j], with symmetric taps.
#pragma once

#include "cpu/window/down.h"
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace fastmef {
namespace {

// Handles any number of taps.
template <class T>
void mean_along(const T* FASTMEF_RESTRICT in, const T* taps, int count, int64_t n,
                T* FASTMEF_RESTRICT out) {
  n = round_up(n);
  for (int64_t x = 0; x < n; ++x) out[x] = 0;
  for (int j = 0; j < count; ++j) {
    const T w = taps[j];
    const T* FASTMEF_RESTRICT shifted = in + j;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] += w * shifted[x];
  }
}

// Handles a fixed number of symmetric taps, which take half as many registers.
template <class T, int Taps>
void mean_along(const T* FASTMEF_RESTRICT in, const T* taps, int64_t n, T* FASTMEF_RESTRICT out) {
  constexpr int kHalf = Taps / 2;
  n = round_up(n);
  T w[kHalf + 1];
  for (int j = 0; j <= kHalf; ++j) w[j] = taps[j];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    T sum = Taps % 2 ? w[kHalf] * in[x + kHalf] : T(0);
#pragma GCC unroll 16
    for (int j = 0; j < kHalf; ++j) sum += w[j] * (in[x + j] + in[x + Taps - 1 - j]);
    out[x] = sum;
  }
}

template <class T>
void mean_along_11(const T* FASTMEF_RESTRICT in, const T* taps, int64_t n,
                   T* FASTMEF_RESTRICT out) {
  mean_along<T, 11>(in, taps, n, out);
}

#if defined(__AVX512F__)

// Returns in[x + Offset] for 16 columns, from registers with in[x] and in[x + 16].
template <int Offset>
__m512 shifted(__m512 here, __m512 next) {
  const __m512i high = _mm512_castps_si512(next), low = _mm512_castps_si512(here);
  return _mm512_castsi512_ps(_mm512_maskz_alignr_epi32(__mmask16(0xffff), high, low, Offset));
}

// A load of 64 bytes that crosses a cache line takes the time of two loads. Every second shifted
// row is assembled from registers instead; the loads then take as long as the arithmetic.
inline void mean_along_11(const float* FASTMEF_RESTRICT in, const float* taps, int64_t n,
                          float* FASTMEF_RESTRICT out) {
  n = round_up(n);
  __m512 w[6];
  for (int j = 0; j < 6; ++j) w[j] = _mm512_set1_ps(taps[j]);
  __m512 here = _mm512_loadu_ps(in);
  for (int64_t x = 0; x < n; x += 16) {
    const float* at = in + x;
    const __m512 next = _mm512_loadu_ps(at + 16);
    const __m512 pairs[5] = {
        _mm512_add_ps(here, shifted<10>(here, next)),
        _mm512_add_ps(_mm512_loadu_ps(at + 1), _mm512_loadu_ps(at + 9)),
        _mm512_add_ps(shifted<2>(here, next), shifted<8>(here, next)),
        _mm512_add_ps(_mm512_loadu_ps(at + 3), _mm512_loadu_ps(at + 7)),
        _mm512_add_ps(shifted<4>(here, next), shifted<6>(here, next)),
    };
    __m512 sum = _mm512_mul_ps(w[5], _mm512_loadu_ps(at + 5));
#pragma GCC unroll 5
    for (int j = 0; j < 5; ++j) sum = _mm512_fmadd_ps(w[j], pairs[j], sum);
    _mm512_storeu_ps(out + x, sum);
    here = next;
  }
}

#endif

}  // namespace
}  // namespace fastmef
