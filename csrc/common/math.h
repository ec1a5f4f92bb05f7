// exp, sqrt and selections in a form that vectorises along a row.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "common/hd.h"

namespace fastmef {

template <class T>
FASTMEF_HD T larger(T a, T b) {
  return a < b ? b : a;
}

FASTMEF_HD float square_root(float x) { return sqrtf(x); }
FASTMEF_HD double square_root(double x) { return sqrt(x); }

// 1/x and the root of x >= 0, on a GPU to 1 and 2 ulp by one instruction instead of ten. It takes
// what is below the smallest normal number for 0.
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

// e^x for x <= 0 to 1.5 ulp; NaN stays NaN, and what is below the smallest normal number becomes 0.
// Cody-Waite reduction to |r| <= ln(2)/2, a degree-6 Taylor-like polynomial (Cephes' coefficients),
// and 2^n made from the bits of the rounded quotient, which needs no conversion to an integer.
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
  float power;
  memcpy(&power, &bits, sizeof(power));
  return x < lowest ? 0.0f : p * power;
#endif
}

FASTMEF_HD double exp_nonpositive(double x) { return exp(x); }

}  // namespace fastmef
