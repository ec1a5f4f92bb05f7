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

// A left matrix whose sum runs over `outer` times `inner` values.
struct Left {
  const float* data;
  int64_t outer, outer_step;
};

// Computes out[r][:] (+)= sum over i and k of left[i * outer_step + r * Row + k * Step] * right[:],
// where right has a row for every pair (i, k), and rows have kVec * Vectors values.
template <bool Adds, int Rows, int Vectors, int Row, int Step>
FASTMEF_INLINE void multiply(const Left& left, int64_t inner, const float* right, float* out) {
  constexpr int64_t kWidth = kVec * Vectors;
  Vec sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) {
      sum[r][v] = Adds ? load(out + r * kWidth + v * kVec) : Vec{};
    }
  }
  const float* data = left.data;
  for (int64_t i = 0; i < left.outer; ++i, data += left.outer_step) {
    for (int64_t k = 0; k < inner; ++k, right += kWidth) {
      Vec factor[Vectors];
      for (int v = 0; v < Vectors; ++v) factor[v] = load(right + v * kVec);
      for (int r = 0; r < Rows; ++r) {
        const Vec value = data[r * Row + k * Step] - Vec{};
        for (int v = 0; v < Vectors; ++v) sum[r][v] += value * factor[v];
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) store(sum[r][v], out + r * kWidth + v * kVec);
  }
}

}  // namespace
}  // namespace fastmef
