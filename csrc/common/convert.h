// Storage types of images, and their conversion to and from the type that is used in computations.
#pragma once

#include <stdint.h>
#include <string.h>

#include "common/hd.h"

namespace fastmef {

// The order is part of the interface to Python.
enum DType { kUInt8, kUInt16, kFloat16, kBFloat16, kFloat32, kFloat64 };

// Returns the size of a value in bytes.
constexpr int64_t size_of(DType dtype) {
  return dtype == kUInt8 ? 1 : dtype == kFloat32 ? 4 : dtype == kFloat64 ? 8 : 2;
}

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

// Return the bits of a number.
FASTMEF_HD uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}
FASTMEF_HD uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}

// Returns the float with these bits.
FASTMEF_HD float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

// The overloads of to_number() convert a stored value to T.
template <class T>
FASTMEF_HD T to_number(uint8_t x) {
  return static_cast<T>(static_cast<int32_t>(x));
}
template <class T>
FASTMEF_HD T to_number(uint16_t x) {
  return static_cast<T>(static_cast<int32_t>(x));
}
template <class T>
FASTMEF_HD T to_number(float x) {
  return static_cast<T>(x);
}
template <class T>
FASTMEF_HD T to_number(double x) {
  return static_cast<T>(x);
}
template <class T>
FASTMEF_HD T to_number(BFloat x) {
  return static_cast<T>(float_of(static_cast<uint32_t>(x.bits) << 16));
}
// A multiplication adjusts the exponent, which turns subnormal halves into normal floats.
template <class T>
FASTMEF_HD T to_number(Half x) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
  return static_cast<T>(value);
#else
  const uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  const uint32_t moved = bits_of(float_of(magnitude) * 5.192296858534828e33f);  // 2^112
  const uint32_t value = special ? (special | magnitude) : moved;
  return static_cast<T>(float_of(value | (x.bits & 0x8000u) << 16));
#endif
}

// Returns the nearest integer in [0, highest], ties to even; NaN and negative numbers become 0. The
// sum with 1.5 * 2^23, or 1.5 * 2^52, has the integer in its lowest bits. The bits are clamped
// instead of the number: compilers turn constant limits of numbers into selections of bytes, which
// are slower.
FASTMEF_HD int32_t nearest_integer(float x, int32_t highest) {
  constexpr int32_t kZero = 0x4b400000;
  int32_t n = static_cast<int32_t>(bits_of(x + 12582912.0f));
  n = n > kZero ? n : kZero;
  n = n < kZero + highest ? n : kZero + highest;
  return x == x ? n - kZero : 0;
}
FASTMEF_HD int32_t nearest_integer(double x, int32_t highest) {
  constexpr int64_t kZero = 0x4338000000000000;
  int64_t n = static_cast<int64_t>(bits_of(x + 6755399441055744.0));
  n = n > kZero ? n : kZero;
  n = n < kZero + highest ? n : kZero + highest;
  return x == x ? static_cast<int32_t>(n - kZero) : 0;
}

// The overloads of from_number() convert a number to a storage type.
template <class T>
FASTMEF_HD void from_number(T x, uint8_t& out) {
  out = static_cast<uint8_t>(nearest_integer(x, 255));
}
template <class T>
FASTMEF_HD void from_number(T x, uint16_t& out) {
  out = static_cast<uint16_t>(nearest_integer(x, 65535));
}
template <class T>
FASTMEF_HD void from_number(T x, float& out) {
  out = static_cast<float>(x);
}
template <class T>
FASTMEF_HD void from_number(T x, double& out) {
  out = static_cast<double>(x);
}
// The two conversions below round to the nearest, ties to even, and keep NaN.
template <class T>
FASTMEF_HD void from_number(T x, BFloat& out) {
  const uint32_t bits = bits_of(static_cast<float>(x));
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out.bits = static_cast<uint16_t>(nan ? 0x7fc0u : rounded);
}
template <class T>
FASTMEF_HD void from_number(T x, Half& out) {
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(static_cast<float>(x)));
#else
  const uint32_t bits = bits_of(static_cast<float>(x));
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  // Adding 1/2 rounds to multiples of 2^-24, the spacing of subnormal halves.
  const uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t value = magnitude < 0x38800000u ? tiny : normal;  // 2^-14
  value = magnitude >= 0x477ff000u ? 0x7c00u : value;        // 65520 rounds to infinity
  value = magnitude > 0x7f800000u ? 0x7e00u : value;
  out.bits = static_cast<uint16_t>(value | (bits >> 16 & 0x8000u));
#endif
}

}  // namespace fastmef
