// Window filters on rows of floats: first down the columns of a block of rows, then along the row.
//
// All rows are readable and writable up to the next multiple of kLane beyond their length, so the
// loops have no tail. A template argument of 0 taps stands for a window size known at run time.
#pragma once

#include <stdint.h>

#include "../common/hd.h"

namespace fastmef {

constexpr int kLane = 16;  // floats in the widest register

FASTMEF_HD int64_t round_up(int64_t n) { return (n + kLane - 1) / kLane * kLane; }

#if defined(__clang__)
#define FASTMEF_VECTORIZE _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FASTMEF_VECTORIZE _Pragma("GCC ivdep")
#else
#define FASTMEF_VECTORIZE __pragma(loop(ivdep))
#endif

#define FASTMEF_RESTRICT __restrict

namespace {

// E[f], E[f^2] down the columns.
template <class T, int Taps>
void moments_down(const T* const* f_rows, const T* taps, int count, int64_t n,
                  T* FASTMEF_RESTRICT mean, T* FASTMEF_RESTRICT power) {
  n = round_up(n);
  if constexpr (Taps > 0) {
    T w[Taps];
    const T* f[Taps];
    for (int j = 0; j < Taps; ++j) w[j] = taps[j], f[j] = f_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T m = 0, p = 0;
#pragma GCC unroll 16
      for (int j = 0; j < Taps; ++j) {
        const T value = f[j][x];
        const T weighted = w[j] * value;
        m += weighted;
        p += weighted * value;
      }
      mean[x] = m;
      power[x] = p;
    }
  } else {
    for (int64_t x = 0; x < n; ++x) mean[x] = power[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T w = taps[j];
      const T* FASTMEF_RESTRICT f = f_rows[j];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) {
        const T weighted = w * f[x];
        mean[x] += weighted;
        power[x] += weighted * f[x];
      }
    }
  }
}

// E[i], E[i^2], E[f i] down the columns.
template <class T, int Taps>
void cross_moments_down(const T* const* f_rows, const T* const* i_rows, const T* taps, int count,
                        int64_t n, T* FASTMEF_RESTRICT mean, T* FASTMEF_RESTRICT power,
                        T* FASTMEF_RESTRICT cross) {
  n = round_up(n);
  if constexpr (Taps > 0) {
    T w[Taps];
    const T* f[Taps];
    const T* i[Taps];
    for (int j = 0; j < Taps; ++j) w[j] = taps[j], f[j] = f_rows[j], i[j] = i_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T m = 0, p = 0, c = 0;
#pragma GCC unroll 16
      for (int j = 0; j < Taps; ++j) {
        const T value = i[j][x];
        const T weighted = w[j] * value;
        m += weighted;
        p += weighted * value;
        c += weighted * f[j][x];
      }
      mean[x] = m;
      power[x] = p;
      cross[x] = c;
    }
  } else {
    for (int64_t x = 0; x < n; ++x) mean[x] = power[x] = cross[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T w = taps[j];
      const T* FASTMEF_RESTRICT f = f_rows[j];
      const T* FASTMEF_RESTRICT i = i_rows[j];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) {
        const T weighted = w * i[x];
        mean[x] += weighted;
        power[x] += weighted * i[x];
        cross[x] += weighted * f[x];
      }
    }
  }
}

// E[a], E[b], E[a^2 + b^2], E[a b] down the columns.
template <class T, int Taps>
void pair_moments_down(const T* const* a_rows, const T* const* b_rows, const T* taps, int count,
                       int64_t n, T* const* out) {
  n = round_up(n);
  T* FASTMEF_RESTRICT mean_a = out[0];
  T* FASTMEF_RESTRICT mean_b = out[1];
  T* FASTMEF_RESTRICT power = out[2];
  T* FASTMEF_RESTRICT cross = out[3];
  if constexpr (Taps > 0) {
    T w[Taps];
    const T* a[Taps];
    const T* b[Taps];
    for (int j = 0; j < Taps; ++j) w[j] = taps[j], a[j] = a_rows[j], b[j] = b_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T sum_a = 0, sum_b = 0, p = 0, c = 0;
#pragma GCC unroll 16
      for (int j = 0; j < Taps; ++j) {
        const T u = a[j][x], v = b[j][x];
        const T weighted_u = w[j] * u, weighted_v = w[j] * v;
        sum_a += weighted_u;
        sum_b += weighted_v;
        p += weighted_u * u + weighted_v * v;
        c += weighted_u * v;
      }
      mean_a[x] = sum_a;
      mean_b[x] = sum_b;
      power[x] = p;
      cross[x] = c;
    }
  } else {
    for (int64_t x = 0; x < n; ++x) mean_a[x] = mean_b[x] = power[x] = cross[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T w = taps[j];
      const T* FASTMEF_RESTRICT a = a_rows[j];
      const T* FASTMEF_RESTRICT b = b_rows[j];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) {
        const T weighted_u = w * a[x], weighted_v = w * b[x];
        mean_a[x] += weighted_u;
        mean_b[x] += weighted_v;
        power[x] += weighted_u * a[x] + weighted_v * b[x];
        cross[x] += weighted_u * b[x];
      }
    }
  }
}

// sum_j taps[j] rows[j] down the columns.
template <class T, int Taps>
void mean_down(const T* const* rows, const T* taps, int count, int64_t n, T* FASTMEF_RESTRICT out) {
  n = round_up(n);
  if constexpr (Taps > 0) {
    T w[Taps];
    const T* r[Taps];
    for (int j = 0; j < Taps; ++j) w[j] = taps[j], r[j] = rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T sum = 0;
#pragma GCC unroll 16
      for (int j = 0; j < Taps; ++j) sum += w[j] * r[j][x];
      out[x] = sum;
    }
  } else {
    for (int64_t x = 0; x < n; ++x) out[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T w = taps[j];
      const T* FASTMEF_RESTRICT r = rows[j];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) out[x] += w * r[x];
    }
  }
}

// out[x] = sum_j taps[j] in[x + j]. The taps are symmetric, which halves the registers they take.
template <class T, int Taps>
void mean_along(const T* FASTMEF_RESTRICT in, const T* taps, int count, int64_t n,
                T* FASTMEF_RESTRICT out) {
  n = round_up(n);
  if constexpr (Taps > 0) {
    constexpr int half = Taps / 2;
    T w[half + 1];
    for (int j = 0; j <= half; ++j) w[j] = taps[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T sum = w[half] * in[x + half];
#pragma GCC unroll 16
      for (int j = 0; j < half; ++j) sum += w[j] * (in[x + j] + in[x + Taps - 1 - j]);
      out[x] = sum;
    }
  } else {
    for (int64_t x = 0; x < n; ++x) out[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T w = taps[j];
      const T* FASTMEF_RESTRICT shifted = in + j;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) out[x] += w * shifted[x];
    }
  }
}

}  // namespace
}  // namespace fastmef
