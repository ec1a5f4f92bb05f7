// Constants and macros with which compilers vectorise loops along rows.
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

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

}  // namespace
}  // namespace fastmef
