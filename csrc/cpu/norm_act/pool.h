// The 2x2 maximum of two rows of channels-last pixels after ReLU, and its gradient.
#pragma once

#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// Returns an integer that orders non-negative values as they are ordered; NaN is the largest.
FASTMEF_HD int32_t rank_of(float y) { return static_cast<int32_t>(bits_of(y) & 0x7fffffffu); }
FASTMEF_HD int32_t larger(int32_t a, int32_t b) { return a < b ? b : a; }

// Writes the maximum of each cell of 2x2 pixels.
template <class S>
void pool_row(const float* FASTMEF_RESTRICT above, const float* FASTMEF_RESTRICT below,
              int64_t cells, int64_t channels, S* FASTMEF_RESTRICT out) {
  for (int64_t cell = 0; cell < cells; ++cell) {
    const float* FASTMEF_RESTRICT a = above + 2 * cell * channels;
    const float* FASTMEF_RESTRICT b = below + 2 * cell * channels;
    S* FASTMEF_RESTRICT to = out + cell * channels;
    FASTMEF_VECTORIZE
    for (int64_t c = 0; c < channels; ++c) {
      const int32_t left = larger(rank_of(a[c]), rank_of(b[c]));
      const int32_t right = larger(rank_of(a[channels + c]), rank_of(b[channels + c]));
      from_number(float_of(static_cast<uint32_t>(larger(left, right))), to[c]);
    }
  }
}

// Writes the gradient of each cell to the first of its largest pixels, and 0 to the others.
inline void pool_row_backward(const float* FASTMEF_RESTRICT above,
                              const float* FASTMEF_RESTRICT below,
                              const float* FASTMEF_RESTRICT grad, int64_t cells, int64_t channels,
                              float* FASTMEF_RESTRICT grad_above,
                              float* FASTMEF_RESTRICT grad_below) {
  for (int64_t cell = 0; cell < cells; ++cell) {
    const int64_t at = 2 * cell * channels;
    const float* FASTMEF_RESTRICT a = above + at;
    const float* FASTMEF_RESTRICT b = below + at;
    const float* FASTMEF_RESTRICT g = grad + cell * channels;
    float* FASTMEF_RESTRICT to_a = grad_above + at;
    float* FASTMEF_RESTRICT to_b = grad_below + at;
    FASTMEF_VECTORIZE
    for (int64_t c = 0; c < channels; ++c) {
      const int32_t first = rank_of(a[c]), second = rank_of(a[channels + c]);
      const int32_t third = rank_of(b[c]), fourth = rank_of(b[channels + c]);
      const int32_t top = larger(first, second), bottom = larger(third, fourth);
      const float grad_top = top >= bottom ? g[c] : 0.0f;
      const float grad_bottom = top >= bottom ? 0.0f : g[c];
      to_a[c] = first >= second ? grad_top : 0.0f;
      to_a[channels + c] = first >= second ? 0.0f : grad_top;
      to_b[c] = third >= fourth ? grad_bottom : 0.0f;
      to_b[channels + c] = third >= fourth ? 0.0f : grad_bottom;
    }
  }
}

}  // namespace
}  // namespace fastmef
