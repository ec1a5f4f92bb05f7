// Channels-last images with a margin of repeated border pixels, and their gradients.
#pragma once

#include <string.h>

#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// Adds n values of any storage type to `to`.
template <class S>
void add_row(const S* FASTMEF_RESTRICT from, int64_t n, float* FASTMEF_RESTRICT to) {
  FASTMEF_VECTORIZE
  for (int64_t i = 0; i < n; ++i) to[i] += to_number<float>(from[i]);
}

// S is the storage type of the images.
template <class S>
struct Frame {
  S* data;
  int64_t height, width, channels;  // without the margin
  int64_t margin;                   // 0 or 1

  // Returns the first pixel after the left margin of row y of image b; y is in [-margin, height +
  // margin).
  S* row(int64_t b, int64_t y) const {
    const int64_t line = b * (height + 2 * margin) + y + margin;
    return data + (line * (width + 2 * margin) + margin) * channels;
  }

  // Fills the margin beside a row, and above the first and below the last one.
  void repeat(int64_t b, int64_t y) const {
    if (!margin) return;
    S* first = row(b, y);
    S* end = first + width * channels;
    const size_t pixel = static_cast<size_t>(channels) * sizeof(S);
    memcpy(first - channels, first, pixel);
    memcpy(end, end - channels, pixel);
    const size_t whole = static_cast<size_t>(width + 2) * pixel;
    if (y == 0) memcpy(row(b, -1) - channels, first - channels, whole);
    if (y == height - 1) memcpy(row(b, height) - channels, first - channels, whole);
  }

  // Returns row y of a gradient, to which the margins above, below and beside it are added. `out`
  // has room for the row with its margins.
  const float* folded(int64_t b, int64_t y, float* out) const {
    const int64_t begin = margin * channels, n = width * channels + 2 * begin;
    read_as<S>(row(b, y) - begin, 1, n, out);
    add_margins_across(b, y, out);
    return fold_ends(out);
  }

  // If y is the first row, adds the margin above it; if it is the last, the margin below it. `out`
  // is a row with its margins.
  void add_margins_across(int64_t b, int64_t y, float* out) const {
    if (!margin) return;
    const int64_t n = (width + 2) * channels;
    if (y == 0) add_row(row(b, -1) - channels, n, out);
    if (y == height - 1) add_row(row(b, height) - channels, n, out);
  }

  // Adds the margins beside a row to its ends, and returns its first pixel.
  float* fold_ends(float* out) const {
    if (!margin) return out;
    float* first = out + channels;
    float* end = first + width * channels;
    add_row(out, channels, first);
    add_row(end, channels, end - channels);
    return first;
  }
};

}  // namespace
}  // namespace fastmef
