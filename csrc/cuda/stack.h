// Arrays as Python hands them over, and whether runs of them can be read in one access.
#pragma once

#include <stdint.h>

#include "../common/convert.h"

namespace fastmef {

// A strided (B, K, C, H, W) array; strides count elements. `data` is null for an absent argument.
struct Stack {
  void* data;
  DType dtype;
  int64_t plane;    // stride of B
  int64_t layer;    // stride of K
  int64_t channel;  // stride of C
  int64_t row;
  int64_t column;
};

inline int64_t size_of(DType dtype) {
  constexpr int64_t sizes[] = {1, 2, 2, 2, 4, 8};
  return sizes[dtype];
}

// Does every row begin where the one before it ends?
inline bool rows_join(const Stack& x, int64_t height, int64_t width) {
  return !x.data || height == 1 || x.row == width * x.column;
}

// Is every run of `length` elements, `count` pixels apart, aligned to its accesses?
inline bool runs_align(const Stack& x, int64_t length, int64_t height) {
  if (!x.data) return true;
  int64_t bytes = length * size_of(x.dtype);
  if (bytes > 16) bytes = 16;
  const int64_t steps = x.plane | x.layer | x.channel | (height == 1 ? 0 : x.row);
  return reinterpret_cast<uintptr_t>(x.data) % bytes == 0 && steps * size_of(x.dtype) % bytes == 0;
}

}  // namespace fastmef
