// The 2x2 maximum of two rows of channels-last pixels, and its gradient.
#pragma once

#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// Whether b is taken and not a: it is larger, or not a number.
FASTMEF_HD bool is_taken(float b, float a) { return (b > a) | (b != b); }

template <class S>
void pool_row(const float* FASTMEF_RESTRICT above, const float* FASTMEF_RESTRICT below,
              int64_t cells, int64_t channels, S* FASTMEF_RESTRICT out) {
  for (int64_t cell = 0; cell < cells; ++cell) {
    const float* FASTMEF_RESTRICT a = above + 2 * cell * channels;
    const float* FASTMEF_RESTRICT b = below + 2 * cell * channels;
    S* FASTMEF_RESTRICT to = out + cell * channels;
    FASTMEF_VECTORIZE
    for (int64_t c = 0; c < channels; ++c) {
      const float top = is_taken(a[channels + c], a[c]) ? a[channels + c] : a[c];
      const float bottom = is_taken(b[channels + c], b[c]) ? b[channels + c] : b[c];
      from_number(is_taken(bottom, top) ? bottom : top, to[c]);
    }
  }
}

// Gives the gradient of each cell to the first of its largest pixels, and 0 to the others.
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
      const bool right_a = is_taken(a[channels + c], a[c]);
      const bool right_b = is_taken(b[channels + c], b[c]);
      const float top = right_a ? a[channels + c] : a[c];
      const float bottom = right_b ? b[channels + c] : b[c];
      const bool low = is_taken(bottom, top);
      to_a[c] = low | right_a ? 0.0f : g[c];
      to_a[channels + c] = low | !right_a ? 0.0f : g[c];
      to_b[c] = !low | right_b ? 0.0f : g[c];
      to_b[channels + c] = !low | !right_b ? 0.0f : g[c];
    }
  }
}

}  // namespace
}  // namespace fastmef
