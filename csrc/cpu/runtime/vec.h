// Vectors of floats as GCC and Clang define them, as wide as the registers of the instruction set.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)

namespace fastmef {
namespace {

#if defined(__AVX512F__)
constexpr int kVec = 16;  // floats in a vector
#elif defined(__AVX__)
constexpr int kVec = 8;
#else
constexpr int kVec = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kVec)));

// Inlined at any level of optimisation, so that loops over constant numbers of vectors become
// registers.
#define FASTMEF_INLINE inline __attribute__((always_inline))

FASTMEF_INLINE Vec load(const float* from) {
  Vec v;
  memcpy(&v, from, sizeof v);
  return v;
}

FASTMEF_INLINE void store(Vec v, float* to) { memcpy(to, &v, sizeof v); }

}  // namespace
}  // namespace fastmef

#endif
