// exp, sqrt and maximum in a form that vectorises along a row.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "common/hd.h"

namespace fastmef {

// Returns the larger number; if b is NaN, a.
template <class T>
FASTMEF_HD T larger(T a, T b) {
  return a < b ? b : a;
}

FASTMEF_HD float square_root(float x) { return sqrtf(x); }
FASTMEF_HD double square_root(double x) { return sqrt(x); }

// 1/x and the square root of x >= 0. On a GPU one instruction instead of ten computes them to 1 and
// 2 ulp; it treats numbers below the smallest normal number as 0.
FASTMEF_HD float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
#else
  return 1.0f / x;
#endif
}
FASTMEF_HD double reciprocal(double x) { return 1.0 / x; }

FASTMEF_HD float fast_root(float x) {
#if defined(__CUDA_ARCH__)
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
#else
  return sqrtf(x);
#endif
}

// Returns e^x for x <= 0 to 1.5 ulp. NaN is kept, and results below the smallest normal number
// become 0. It uses Cody-Waite reduction to |r| <= ln(2)/2, a degree-6 Taylor-like polynomial
// (Cephes' coefficients), and 2^n made from the bits of the rounded quotient, which needs no
// conversion to an integer.
FASTMEF_HD float exp_nonpositive(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  const float lowest = -87.0f;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x < lowest ? lowest : x;
  const float shifted = clamped * 1.44269504f + magic;
  const float n = shifted - magic;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127u) << 23;
  float two_to_n;
  memcpy(&two_to_n, &bits, sizeof(two_to_n));
  return x < lowest ? 0.0f : p * two_to_n;
#endif
}

FASTMEF_HD double exp_nonpositive(double x) { return exp(x); }

}  // namespace fastmef
