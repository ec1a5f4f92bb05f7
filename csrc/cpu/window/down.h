// Window filters down the columns of a block of rows.
//
// All rows can be read and written up to the next multiple of kLane beyond their length, so that
// the loops have no tail. Overloads without a template argument for the taps handle any number.
#pragma once

#include <stdint.h>

#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

// Computes E[f] and E[f^2] down the columns, for windows that begin in each of `Rows` rows.
template <class T, int Taps, int Rows>
void moments_down(const T* const* f_rows, const T* taps, int64_t n, int64_t stride, T* mean,
                  T* second_moment) {
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
    for (int r = 0; r < Rows; ++r)
      mean[r * stride + x] = m[r], second_moment[r * stride + x] = p[r];
  }
}

template <class T>
void moments_down(const T* const* f_rows, const T* taps, int count, int64_t n,
                  T* FASTMEF_RESTRICT mean, T* FASTMEF_RESTRICT second_moment) {
  n = round_up(n);
  for (int64_t x = 0; x < n; ++x) mean[x] = second_moment[x] = 0;
  for (int j = 0; j < count; ++j) {
    const T w = taps[j];
    const T* FASTMEF_RESTRICT f = f_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T weighted = w * f[x];
      mean[x] += weighted;
      second_moment[x] += weighted * f[x];
    }
  }
}

// Computes E[i], E[i^2] and E[f i] down the columns, for windows that begin in each of `Rows` rows.
template <class T, int Taps, int Rows>
void cross_moments_down(const T* const* f_rows, const T* const* i_rows, const T* taps, int64_t n,
                        int64_t stride, T* mean, T* second_moment, T* cross) {
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
      second_moment[r * stride + x] = p[r];
      cross[r * stride + x] = c[r];
    }
  }
}

template <class T>
void cross_moments_down(const T* const* f_rows, const T* const* i_rows, const T* taps, int count,
                        int64_t n, T* FASTMEF_RESTRICT mean, T* FASTMEF_RESTRICT second_moment,
                        T* FASTMEF_RESTRICT cross) {
  n = round_up(n);
  for (int64_t x = 0; x < n; ++x) mean[x] = second_moment[x] = cross[x] = 0;
  for (int j = 0; j < count; ++j) {
    const T w = taps[j];
    const T* FASTMEF_RESTRICT f = f_rows[j];
    const T* FASTMEF_RESTRICT i = i_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T weighted = w * i[x];
      mean[x] += weighted;
      second_moment[x] += weighted * i[x];
      cross[x] += weighted * f[x];
    }
  }
}

// Computes out_r = sum_j taps[j] rows[r + j] down the columns, for each of `Rows` rows.
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
