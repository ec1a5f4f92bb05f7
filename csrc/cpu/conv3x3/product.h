// Products of matrices in registers: Rows x Vectors accumulators, a broadcast value of the left
// matrix times a row of the right one.
#pragma once

#include "cpu/runtime/vec.h"

namespace fastmef {
namespace {

// The columns of the right matrix that are computed together, at most.
constexpr int64_t kPanel = kVec == 16 ? 64 : 16;

// The width of a panel from column `first` on.
inline int64_t panel_width(int64_t first, int64_t columns) {
  return columns - first < kPanel ? columns - first : kPanel;
}

// Computes out[r][:] (+)= sum over k of left[r * row + k * step] * right[k][:], where right and out
// have kVec * Vectors columns.
template <bool Adds, int Rows, int Vectors>
FASTMEF_INLINE void multiply(const float* left, int64_t row, int64_t step, const float* right,
                             int64_t count, float* out) {
  constexpr int64_t kWidth = kVec * Vectors;
  Vec sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) {
      sum[r][v] = Adds ? load(out + r * kWidth + v * kVec) : Vec{};
    }
  }
  for (int64_t k = 0; k < count; ++k) {
    Vec factor[Vectors];
    for (int v = 0; v < Vectors; ++v) factor[v] = load(right + k * kWidth + v * kVec);
    for (int r = 0; r < Rows; ++r) {
      const Vec value = left[r * row + k * step] - Vec{};
      for (int v = 0; v < Vectors; ++v) sum[r][v] += value * factor[v];
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) store(sum[r][v], out + r * kWidth + v * kVec);
  }
}

}  // namespace
}  // namespace fastmef
