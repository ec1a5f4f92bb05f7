// The variance of luma in flat windows, and the activity computed from it.
//
// From each column of a window a pixel near its middle is subtracted, and from the means of the
// columns that of the middle column. So rounding errors are relative to the variance for any
// brightness of the window, and no sum is carried from one row to the next.
#pragma once

#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

// Computes the mean of each column of nine rows, and the sum of its squared deviations, for the
// windows that begin in each of two rows. `rows` are the ten rows under them. Both windows contain
// eight of the rows, and the pixel that is subtracted is the one in the fifth row.
template <class T>
void column_moments_of_nine(const T* const* rows, int64_t n, int64_t stride, T* mean,
                            T* deviation) {
  constexpr T kInverse = T(1) / 9;
  const T* r[10];
  for (int j = 0; j < 10; ++j) r[j] = rows[j];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    const T middle = r[4][x];
    T shared = 0, shared_squares = 0;
#pragma GCC unroll 8
    for (int j = 1; j < 9; ++j) {
      if (j == 4) continue;
      const T d = r[j][x] - middle;
      shared += d;
      shared_squares += d * d;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const T d = r[9 * i][x] - middle;
      const T sum = shared + d;
      mean[i * stride + x] = middle + kInverse * sum;
      deviation[i * stride + x] = shared_squares + d * d - kInverse * sum * sum;
    }
  }
}

// Merges three sets of `pixels` pixels each. `deviations` is the sum of their squared deviations.
template <class T>
FASTMEF_HD void join_three_moments(T before, T middle, T after, T deviations, T pixels, T& mean,
                                   T& deviation) {
  const T a = before - middle, b = after - middle, sum = a + b;
  mean = middle + T(1) / 3 * sum;
  deviation = deviations + pixels * (a * a + b * b - T(1) / 3 * sum * sum);
}

// Computes the variance of windows of nine columns of nine pixels by merging three columns, and
// then three of the results. Means `m` and deviations `d` begin four columns before the windows.
template <class T>
void row_variance_of_nine(const T* FASTMEF_RESTRICT m, const T* FASTMEF_RESTRICT d, int64_t n,
                          T* FASTMEF_RESTRICT variance, T* FASTMEF_RESTRICT mean_of_three,
                          T* FASTMEF_RESTRICT deviation_of_three) {
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n + 6; ++x) {
    join_three_moments(m[x], m[x + 1], m[x + 2], d[x] + d[x + 1] + d[x + 2], T(9), mean_of_three[x],
                       deviation_of_three[x]);
  }
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    const T *u = mean_of_three + x, *e = deviation_of_three + x;
    T all, total;
    join_three_moments(u[0], u[3], u[6], e[0] + e[3] + e[6], T(27), all, total);
    const T v = T(1) / 81 * total;
    variance[x] = v < 0 ? T(0) : v;  // NaN is kept
  }
}

// The two functions below do the same for any radius. `sum` and `squares` are rows of scratch.
template <class T>
void column_moments(const T* const* rows, int radius, int64_t n, T* FASTMEF_RESTRICT mean,
                    T* FASTMEF_RESTRICT deviation, T* FASTMEF_RESTRICT sum,
                    T* FASTMEF_RESTRICT squares) {
  const T inverse = T(1) / (2 * radius + 1);
  const T* FASTMEF_RESTRICT middle = rows[radius];
  for (int64_t x = 0; x < n; ++x) sum[x] = squares[x] = 0;
  for (int j = 0; j < 2 * radius + 1; ++j) {
    const T* FASTMEF_RESTRICT row = rows[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T d = row[x] - middle[x];
      sum[x] += d;
      squares[x] += d * d;
    }
  }
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    mean[x] = middle[x] + inverse * sum[x];
    deviation[x] = squares[x] - inverse * sum[x] * sum[x];
  }
}

template <class T>
void row_variance(const T* FASTMEF_RESTRICT mean, const T* FASTMEF_RESTRICT deviation, int radius,
                  int64_t n, T* FASTMEF_RESTRICT variance, T* FASTMEF_RESTRICT sum,
                  T* FASTMEF_RESTRICT squares) {
  const T inverse = T(1) / (2 * radius + 1);
  for (int64_t x = 0; x < n; ++x) sum[x] = squares[x] = variance[x] = 0;
  for (int j = 0; j < 2 * radius + 1; ++j) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T d = mean[x + j] - mean[x + radius];
      sum[x] += d;
      squares[x] += d * d;
      variance[x] += deviation[x + j];
    }
  }
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    const T v = inverse * (inverse * variance[x] + (squares[x] - inverse * sum[x] * sum[x]));
    variance[x] = v < 0 ? T(0) : v;  // NaN is kept
  }
}

// Computes the variance of weighted pixels. Sums are double, so that no constant is subtracted.
template <class T>
void masked_variance(const T* const* rows, const T* const* masks, int radius, int64_t n,
                     double* FASTMEF_RESTRICT weight, double* FASTMEF_RESTRICT sum,
                     double* FASTMEF_RESTRICT squares, T* FASTMEF_RESTRICT variance) {
  const int64_t wide = n + 2 * radius;
  for (int64_t x = 0; x < wide; ++x) weight[x] = sum[x] = squares[x] = 0;
  for (int j = 0; j < 2 * radius + 1; ++j) {
    const T* FASTMEF_RESTRICT row = rows[j];
    const T* FASTMEF_RESTRICT mask = masks[j];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < wide; ++x) {
      const double m = mask[x], value = row[x];
      weight[x] += m;
      sum[x] += m * value;
      squares[x] += m * value * value;
    }
  }
  for (int64_t x = 0; x < n; ++x) {
    double w = 0, s = 0, q = 0;
    for (int j = 0; j < 2 * radius + 1; ++j) {
      w += weight[x + j];
      s += sum[x + j];
      q += squares[x + j];
    }
    const double inverse = w > 0 ? 1 / w : 0;
    const double v = q * inverse - s * inverse * (s * inverse);
    variance[x] = static_cast<T>(v < 0 ? 0 : v);
  }
}

// Returns the activity of an exposure.
template <class T>
FASTMEF_HD T activity(T variance, T floor, T share) {
  const T v = variance + floor;
  return share * (v * v);
}

// Replaces the variance by activity = share (variance + floor)^2, and adds it to total, which is
// set to 0 before if `first` is true.
template <class T>
void activity_row(T* FASTMEF_RESTRICT variance, T floor, T share, bool first, int64_t n,
                  T* FASTMEF_RESTRICT total) {
  if (first) {
    for (int64_t x = 0; x < n; ++x) total[x] = 0;
  }
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    const T a = activity(variance[x], floor, share);
    variance[x] = a;
    total[x] += a;
  }
}

}  // namespace
}  // namespace fastmef
