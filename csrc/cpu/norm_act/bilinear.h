// Bilinear upsampling of channels-last images by 2, where pixels are areas, and its gradient.
//
// Along either axis out[2 i] = (3 in[i] + in[i - 1]) / 4 and out[2 i + 1] = (3 in[i] + in[i + 1]) /
// 4, and a pixel of `in` has the weights 1/4, 3/4, 3/4, 1/4 in out[2 i - 1] to out[2 i + 2]. A
// pixel beyond the border is the border pixel, which also has its weight.
#pragma once

#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// Writes the row (3 near + far) / 4.
inline void mix(const float* FASTMEF_RESTRICT near, const float* FASTMEF_RESTRICT far, int64_t n,
                float* FASTMEF_RESTRICT out) {
  FASTMEF_VECTORIZE
  for (int64_t i = 0; i < n; ++i) out[i] = 0.75f * near[i] + 0.25f * far[i];
}

// Upsamples a row of `width` pixels to 2 width.
template <class S>
void widen(const float* in, int64_t width, int64_t channels, S* out) {
  for (int64_t x = 0; x < width; ++x) {
    const float* FASTMEF_RESTRICT own = in + x * channels;
    const float* FASTMEF_RESTRICT left = x ? own - channels : own;
    const float* FASTMEF_RESTRICT right = x < width - 1 ? own + channels : own;
    S* FASTMEF_RESTRICT to = out + 2 * x * channels;
    FASTMEF_VECTORIZE
    for (int64_t c = 0; c < channels; ++c) {
      from_number(0.75f * own[c] + 0.25f * left[c], to[c]);
      from_number(0.75f * own[c] + 0.25f * right[c], to[channels + c]);
    }
  }
}

// Adds up what a row receives from four rows of the gradient, the outer and the inner ones.
template <class S>
void gather_rows(const S* FASTMEF_RESTRICT outer_a, const S* FASTMEF_RESTRICT inner_a,
                 const S* FASTMEF_RESTRICT inner_b, const S* FASTMEF_RESTRICT outer_b, int64_t n,
                 float* FASTMEF_RESTRICT out) {
  FASTMEF_VECTORIZE
  for (int64_t i = 0; i < n; ++i) {
    const float outer = to_number<float>(outer_a[i]) + to_number<float>(outer_b[i]);
    const float inner = to_number<float>(inner_a[i]) + to_number<float>(inner_b[i]);
    out[i] = 0.25f * outer + 0.75f * inner;
  }
}

// Does the same along a row: 2 width pixels become `width`.
inline void gather_columns(const float* in, int64_t width, int64_t channels, float* out) {
  for (int64_t x = 0; x < width; ++x) {
    const float* FASTMEF_RESTRICT a = in + 2 * x * channels;
    const float* FASTMEF_RESTRICT b = a + channels;
    const float* FASTMEF_RESTRICT left = x ? a - channels : a;
    const float* FASTMEF_RESTRICT right = x < width - 1 ? b + channels : b;
    float* FASTMEF_RESTRICT to = out + x * channels;
    FASTMEF_VECTORIZE
    for (int64_t c = 0; c < channels; ++c) {
      to[c] = 0.25f * (left[c] + right[c]) + 0.75f * (a[c] + b[c]);
    }
  }
}

}  // namespace
}  // namespace fastmef
