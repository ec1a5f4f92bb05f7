// Window sums for MEF-SSIM ma2015, which weights every window twice, equally and by a Gaussian.
// Down the columns both are computed from one load. The taps are symmetric, so the rows above and
// below the middle are added before they are weighted.
#pragma once

#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

// Computes smooth[0] and smooth[1], E[f] and E[f^2] with the taps, and flat[0] and flat[1], the
// sums of f and f^2.
template <class T, int Taps>
void both_moments_down(const T* const* f_rows, const T* taps, int count, int64_t n,
                       T* const* smooth, T* const* flat) {
  n = round_up(n);
  T* FASTMEF_RESTRICT mean = smooth[0];
  T* FASTMEF_RESTRICT second_moment = smooth[1];
  T* FASTMEF_RESTRICT flat_mean = flat[0];
  T* FASTMEF_RESTRICT flat_second_moment = flat[1];
  if constexpr (Taps > 0) {
    constexpr int half = Taps / 2;
    T w[half + 1];
    const T* f[Taps];
    for (int j = 0; j <= half; ++j) w[j] = taps[j];
    for (int j = 0; j < Taps; ++j) f[j] = f_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T sum = f[half][x], squares = sum * sum;
      T m = w[half] * sum, p = w[half] * squares;
#pragma GCC unroll 16
      for (int j = 0; j < half; ++j) {
        const T a = f[j][x], b = f[Taps - 1 - j][x];
        const T both = a + b, both_squares = a * a + b * b;
        m += w[j] * both;
        p += w[j] * both_squares;
        sum += both;
        squares += both_squares;
      }
      mean[x] = m;
      second_moment[x] = p;
      flat_mean[x] = sum;
      flat_second_moment[x] = squares;
    }
  } else {
    for (int64_t x = 0; x < n; ++x)
      mean[x] = second_moment[x] = flat_mean[x] = flat_second_moment[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T w = taps[j];
      const T* FASTMEF_RESTRICT f = f_rows[j];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) {
        const T square = f[x] * f[x];
        mean[x] += w * f[x];
        second_moment[x] += w * square;
        flat_mean[x] += f[x];
        flat_second_moment[x] += square;
      }
    }
  }
}

// Computes smooth, E[a b] with the taps, and flat, the sum of a b.
template <class T, int Taps>
void products_down(const T* const* a_rows, const T* const* b_rows, const T* taps, int count,
                   int64_t n, T* FASTMEF_RESTRICT smooth, T* FASTMEF_RESTRICT flat) {
  n = round_up(n);
  if constexpr (Taps > 0) {
    constexpr int half = Taps / 2;
    T w[half + 1];
    const T* a[Taps];
    const T* b[Taps];
    for (int j = 0; j <= half; ++j) w[j] = taps[j];
    for (int j = 0; j < Taps; ++j) a[j] = a_rows[j], b[j] = b_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T sum = a[half][x] * b[half][x], weighted = w[half] * sum;
#pragma GCC unroll 16
      for (int j = 0; j < half; ++j) {
        const T both = a[j][x] * b[j][x] + a[Taps - 1 - j][x] * b[Taps - 1 - j][x];
        weighted += w[j] * both;
        sum += both;
      }
      smooth[x] = weighted;
      flat[x] = sum;
    }
  } else {
    for (int64_t x = 0; x < n; ++x) smooth[x] = flat[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T w = taps[j];
      const T* FASTMEF_RESTRICT a = a_rows[j];
      const T* FASTMEF_RESTRICT b = b_rows[j];
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) {
        const T product = a[x] * b[x];
        smooth[x] += w * product;
        flat[x] += product;
      }
    }
  }
}

// Computes E[a b] down the columns, for windows that begin in each of `Rows` rows.
template <class T, int Taps, int Rows>
void product_means_down(const T* const* a_rows, const T* const* b_rows, const T* taps, int64_t n,
                        int64_t stride, T* out) {
  n = round_up(n);
  constexpr int kUnder = Taps + Rows - 1;
  T w[Taps];
  const T* a[kUnder];
  const T* b[kUnder];
  for (int j = 0; j < Taps; ++j) w[j] = taps[j];
  for (int j = 0; j < kUnder; ++j) a[j] = a_rows[j], b[j] = b_rows[j];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    T sum[Rows] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kUnder; ++j) {
      const T product = a[j][x] * b[j][x];
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        if (r > j || j - r >= Taps) continue;
        sum[r] += w[j - r] * product;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) out[r * stride + x] = sum[r];
  }
}

// Does the same for any number of taps and the windows of one row.
template <class T>
void product_means_down(const T* const* a_rows, const T* const* b_rows, const T* taps, int count,
                        int64_t n, T* FASTMEF_RESTRICT out) {
  n = round_up(n);
  for (int64_t x = 0; x < n; ++x) out[x] = 0;
  for (int j = 0; j < count; ++j) {
    const T w = taps[j];
    const T* FASTMEF_RESTRICT a = a_rows[j];
    const T* FASTMEF_RESTRICT b = b_rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] += w * (a[x] * b[x]);
  }
}

// Computes out[x] = factor * (in[x] + ... + in[x + count - 1]). `threes` holds sums of three
// neighbours, with which eleven terms take a third fewer loads.
template <class T, int Count>
void box_along(const T* FASTMEF_RESTRICT in, T factor, int count, int64_t n,
               T* FASTMEF_RESTRICT threes, T* FASTMEF_RESTRICT out) {
  n = round_up(n);
  if constexpr (Count == 11) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n + kLane; ++x) threes[x] = in[x] + in[x + 1] + in[x + 2];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T nine = threes[x] + threes[x + 3] + threes[x + 6];
      out[x] = factor * (nine + (in[x + 9] + in[x + 10]));
    }
  } else {
    for (int64_t x = 0; x < n; ++x) out[x] = 0;
    for (int j = 0; j < count; ++j) {
      const T* FASTMEF_RESTRICT shifted = in + j;
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) out[x] += shifted[x];
    }
    for (int64_t x = 0; x < n; ++x) out[x] *= factor;
  }
}

}  // namespace
}  // namespace fastmef
