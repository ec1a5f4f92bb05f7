// Tests whether runs of neighbouring pixels can be read in one access.
#pragma once

#include "common/stack.h"

namespace fastmef {

// Returns whether every row begins where the row before it ends.
inline bool rows_join(const Stack& x, int64_t height, int64_t width) {
  return !x.data || height == 1 || x.row == width * x.column;
}

// Returns whether runs of `length` elements are aligned to the accesses that read them.
inline bool runs_align(const Stack& x, int64_t length, int64_t height) {
  if (!x.data) return true;
  int64_t bytes = length * size_of(x.dtype);
  if (bytes > 16) bytes = 16;
  const int64_t steps = x.plane | x.layer | x.channel | (height == 1 ? 0 : x.row);
  return reinterpret_cast<uintptr_t>(x.data) % bytes == 0 && steps * size_of(x.dtype) % bytes == 0;
}

// Returns whether runs of `pixels`, each with `channels` neighbouring values, can be read.
inline bool image_in_runs(const Stack& x, int pixels, int channels, int64_t height) {
  if (!x.data) return true;
  if (x.column != channels || (channels > 1 && x.channel != 1)) return false;
  Stack pixel = x;
  if (channels > 1) pixel.channel = 0;
  return runs_align(pixel, pixels, height);
}

}  // namespace fastmef
