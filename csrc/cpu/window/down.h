// Window filters down the columns of a block of rows.
//
// All rows are readable and writable up to the next multiple of kLane beyond their length, so the
// loops have no tail. Where the number of taps is no template argument it is known at run
// time only.
#pragma once

#include <stdint.h>

#include "common/hd.h"

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

// E[f], E[f^2] down the columns, for windows that begin in each of `Rows` rows.
template <class T, int Taps, int Rows>
void moments_down(const T* const* f_rows, const T* taps, int64_t n, int64_t stride, T* mean,
                  T* power) {
  n = round_up(n);
  constexpr int kUnder = Taps + Rows - 1;
  T w[Taps];
  const T* f[kUnder];
  for (int j = 0; j < Taps; ++j) w[j] = taps[j];
  for (int j = 0; j < kUnder; ++j) f[j] = f_rows[j];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    T m[Rows] = {}, p[Rows] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kUnder; ++j) {
      const T value = f[j][x];
      const T square = value * value;
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        if (r > j || j - r >= Taps) continue;
        m[r] += w[j - r] * value;
        p[r] += w[j - r] * square;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) mean[r * stride + x] = m[r], power[r * stride + x] = p[r];
  }
}

template <class T>
void moments_down(const T* const* f_rows, const T* taps, int count, int64_t n,
                  T* FASTMEF_RESTRICT mean, T* FASTMEF_RESTRICT power) {
  n = round_up(n);
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

// E[i], E[i^2], E[f i] down the columns, for windows that begin in each of `Rows` rows.
template <class T, int Taps, int Rows>
void cross_moments_down(const T* const* f_rows, const T* const* i_rows, const T* taps, int64_t n,
                        int64_t stride, T* mean, T* power, T* cross) {
  n = round_up(n);
  constexpr int kUnder = Taps + Rows - 1;
  T w[Taps];
  const T* f[kUnder];
  const T* i[kUnder];
  for (int j = 0; j < Taps; ++j) w[j] = taps[j];
  for (int j = 0; j < kUnder; ++j) f[j] = f_rows[j], i[j] = i_rows[j];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    T m[Rows] = {}, p[Rows] = {}, c[Rows] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kUnder; ++j) {
      const T value = i[j][x];
      const T square = value * value, product = value * f[j][x];
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        if (r > j || j - r >= Taps) continue;
        m[r] += w[j - r] * value;
        p[r] += w[j - r] * square;
        c[r] += w[j - r] * product;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      mean[r * stride + x] = m[r];
      power[r * stride + x] = p[r];
      cross[r * stride + x] = c[r];
    }
  }
}

template <class T>
void cross_moments_down(const T* const* f_rows, const T* const* i_rows, const T* taps, int count,
                        int64_t n, T* FASTMEF_RESTRICT mean, T* FASTMEF_RESTRICT power,
                        T* FASTMEF_RESTRICT cross) {
  n = round_up(n);
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

// out_r = sum_j taps[j] rows[r + j] down the columns, for each of `Rows` rows.
template <class T, int Taps, int Rows>
void mean_down(const T* const* rows, const T* taps, int64_t n, int64_t stride, T* out) {
  n = round_up(n);
  constexpr int kUnder = Taps + Rows - 1;
  T w[Taps];
  const T* in[kUnder];
  for (int j = 0; j < Taps; ++j) w[j] = taps[j];
  for (int j = 0; j < kUnder; ++j) in[j] = rows[j];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    T sum[Rows] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kUnder; ++j) {
      const T value = in[j][x];
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        if (r > j || j - r >= Taps) continue;
        sum[r] += w[j - r] * value;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) out[r * stride + x] = sum[r];
  }
}

template <class T>
void mean_down(const T* const* rows, const T* taps, int count, int64_t n, T* FASTMEF_RESTRICT out) {
  n = round_up(n);
  for (int64_t x = 0; x < n; ++x) out[x] = 0;
  for (int j = 0; j < count; ++j) {
    const T w = taps[j];
    const T* FASTMEF_RESTRICT r = rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] += w * r[x];
  }
}

}  // namespace
}  // namespace fastmef
