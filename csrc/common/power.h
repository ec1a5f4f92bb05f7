// b^p and tan(pi/2 x) in a form that vectorises along a row, for float and double.
//
// The polynomials are minimax fits of relative error. Exponents are read from and written to the
// bits of floats, and adding a large constant rounds to an integer. This avoids conversions that
// not every instruction set vectorises.
#pragma once

#include <stdint.h>
#include <string.h>

#include "common/hd.h"

namespace fastmef {

template <class T>
struct Layout;

template <>
struct Layout<float> {
  using Word = uint32_t;
  static constexpr int kMantissa = 23;
  static constexpr Word kBias = 127;
  static constexpr Word kRootHalf = 0x3f3504f3u;  // the bits of sqrt(1/2)
  static constexpr Word kLeading = 0xfffff000u;   // 12 bits of the mantissa
  static constexpr float kOnes = 8388608.0f;      // 2^23: the last bit of larger floats counts ones
  // log2(m) / s in powers of s^2, s = (m - 1) / (m + 1), m within [sqrt(1/2), sqrt(2)]: to 7e-10.
  static constexpr float kLog[] = {2.88539008f, 0.9617988483f, 0.5767143096f, 0.4317379008f};
  // 2^r, |r| <= 0.505: to 2e-9.
  static constexpr float kExp[] = {1.0f,
                                   0.6931472073f,
                                   0.2402264666f,
                                   0.05550325471f,
                                   0.009618503532f,
                                   0.001340125804f,
                                   0.0001534465543f};
  // tan(pi/2 x) / x in powers of x^2, x <= 1/2: to 2e-8.
  static constexpr float kTan[] = {1.570796352f, 1.291918221f,  1.275709126f, 1.258828266f,
                                   1.432284613f, 0.4159887892f, 3.366693806f};
};

template <>
struct Layout<double> {
  using Word = uint64_t;
  static constexpr int kMantissa = 52;
  static constexpr Word kBias = 1023;
  static constexpr Word kRootHalf = 0x3fe6a09e667f3bcdu;
  static constexpr Word kLeading = 0xfffffffff8000000u;
  static constexpr double kOnes = 4503599627370496.0;
  // These fits are accurate to 1e-18, 3e-18 and 2e-16.
  static constexpr double kLog[] = {2.8853900817779268,  0.96179669392598983, 0.57707801634546424,
                                    0.41219858585246446, 0.32059853377704341, 0.26233440986463025,
                                    0.22091164958661378, 0.21367305007446999};
  static constexpr double kExp[] = {1.0,
                                    0.693147180559945333,
                                    0.24022650695910165,
                                    0.0555041086648197482,
                                    0.00961812910758503064,
                                    0.00133335581468198719,
                                    0.000154035304667447183,
                                    0.000015252733470646832,
                                    1.32154309188301003e-6,
                                    1.01782025839692701e-7,
                                    7.07449009979970059e-9,
                                    4.43507388843124909e-10};
  static constexpr double kTan[] = {
      1.57079632679489637,  1.29192819501288675, 1.27508201983677585,   1.27343713515452592,
      1.27326069567802558,  1.27325919429291115, 1.27288883142125516,   1.27806024391223428,
      1.22744741056922523,  1.5763399104809274,  -0.111110971289192289, 5.49325453892060383,
      -6.67842870294413147, 8.8874799126717389};
};

// Returns the bits of a floating-point number.
template <class T>
FASTMEF_HD typename Layout<T>::Word word_of(T x) {
  typename Layout<T>::Word word;
  memcpy(&word, &x, sizeof(word));
  return word;
}

// Returns the floating-point number with these bits.
template <class T>
FASTMEF_HD T from_word(typename Layout<T>::Word word) {
  T x;
  memcpy(&x, &word, sizeof(x));
  return x;
}

// Evaluates a polynomial by Horner's rule; coefficients begin with the constant.
template <class T, int N>
FASTMEF_HD T polynomial(T x, const T (&coefficients)[N]) {
  T sum = coefficients[N - 1];
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) sum = sum * x + coefficients[i];
  return sum;
}

// Returns base^exponent for normal positive bases and |exponent| <= 10, to 8 ulp. Powers below the
// smallest normal number become 0; if the exponent is NaN the result is NaN.
template <class T>
FASTMEF_HD T power(T base, T exponent) {
  using L = Layout<T>;
  using Word = typename L::Word;
  // base = 2^whole * m. Adding bias + 1 keeps the count positive.
  const Word bits = word_of(base);
  const Word count = (bits - L::kRootHalf + ((L::kBias + 1) << L::kMantissa)) >> L::kMantissa;
  const T whole = from_word<T>(word_of(L::kOnes) | count) - (L::kOnes + T(L::kBias + 1));
  const T m = from_word<T>(bits - (count << L::kMantissa) + ((L::kBias + 1) << L::kMantissa));
  const T s = (m - 1) / (m + 1);
  const T fraction = s * polynomial(s * s, L::kLog);
  // exponent * log2(base) = n + r. The product of the exponent's leading bits and `whole` is exact,
  // so that subtracting n from it loses no precision in r.
  const T leading = from_word<T>(word_of(exponent) & L::kLeading);
  const T product = exponent * (whole + fraction);
  const T magic = T(1.5) * L::kOnes;
  const T shifted = product + magic;
  const T n = shifted - magic;
  const T r = (leading * whole - n) + ((exponent - leading) * whole + exponent * fraction);
  const T scale = from_word<T>((word_of(shifted) + L::kBias) << L::kMantissa);
  return product < 1 - T(L::kBias) ? T(0) : polynomial(r, L::kExp) * scale;
}

// Returns tan(pi/2 x) for 0 <= x < 1, to 4 ulp. Above 1/2 it is 1 / tan(pi/2 (1 - x)), where 1 - x
// is exact.
template <class T>
FASTMEF_HD T tangent_of_quarter_turns(T x) {
  const bool steep = x > T(0.5);
  const T folded = steep ? 1 - x : x;
  const T value = folded * polynomial(folded * folded, Layout<T>::kTan);
  return steep ? 1 / value : value;
}

}  // namespace fastmef
