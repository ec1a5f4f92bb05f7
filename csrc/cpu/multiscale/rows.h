// Rows of the pyramid: expansion, borders, and channels of interleaved pixels.
#pragma once

#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// Returns the value that represents 1 in images of this type.
inline double highest_of(DType dtype) {
  return dtype == kUInt8 ? 255 : dtype == kUInt16 ? 65535 : 1;
}

inline int64_t clamp_index(int64_t i, int64_t size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// The two coarse rows around a fine row: `own`, which contains it, has the weight 3/4.
struct Between {
  int64_t own, other;
  Between(int64_t y, int64_t coarse_size)
      : own(y / 2), other(clamp_index(y / 2 + (y % 2 ? 1 : -1), coarse_size)) {}
};

// Computes out[2 i] = (3 in[i] + in[i - 1]) / 4 and out[2 i + 1] = (3 in[i] + in[i + 1]) / 4. `in`
// is readable from -1 to pairs.
template <class T>
void expand_row(const T* FASTMEF_RESTRICT in, int64_t pairs, T* FASTMEF_RESTRICT out) {
  FASTMEF_VECTORIZE
  for (int64_t i = 0; i < pairs; ++i) {
    const T own = T(0.75) * in[i];
    out[2 * i] = own + T(0.25) * in[i - 1];
    out[2 * i + 1] = own + T(0.25) * in[i + 1];
  }
}

// Fills [begin, first) and [last, end) with the first and the last value of [first, last).
template <class T>
void repeat_ends(T* row, int64_t begin, int64_t end, int64_t first, int64_t last) {
  for (int64_t x = begin; x < first; ++x) row[x - begin] = row[first - begin];
  for (int64_t x = last; x < end; ++x) row[x - begin] = row[last - 1 - begin];
}

// The functions below copy one channel of strided pixels, or three channels of interleaved pixels.
template <class S>
void gather_as(const void* from, int64_t step, int64_t n, void* to) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(from);
  S* FASTMEF_RESTRICT out = static_cast<S*>(to);
  for (int64_t x = 0; x < n; ++x) out[x] = in[x * step];
}

template <class S>
void scatter_as(const void* from, int64_t step, int64_t n, void* to) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(from);
  S* FASTMEF_RESTRICT out = static_cast<S*>(to);
  for (int64_t x = 0; x < n; ++x) out[x * step] = in[x];
}

template <class S>
void split_three_as(const void* from, int64_t n, void* first, void* second, void* third) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(from);
  S* FASTMEF_RESTRICT a = static_cast<S*>(first);
  S* FASTMEF_RESTRICT b = static_cast<S*>(second);
  S* FASTMEF_RESTRICT c = static_cast<S*>(third);
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    a[x] = in[3 * x];
    b[x] = in[3 * x + 1];
    c[x] = in[3 * x + 2];
  }
}

template <class S>
void join_three_as(const void* first, const void* second, const void* third, int64_t n, void* to) {
  const S* FASTMEF_RESTRICT a = static_cast<const S*>(first);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(second);
  const S* FASTMEF_RESTRICT c = static_cast<const S*>(third);
  S* FASTMEF_RESTRICT out = static_cast<S*>(to);
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    out[3 * x] = a[x];
    out[3 * x + 1] = b[x];
    out[3 * x + 2] = c[x];
  }
}

// Calls f<S>() for an unsigned integer of the size of dtype; values are copied without conversion.
#define FASTMEF_FOR_SIZE(dtype, f, ...)       \
  switch (size_of(dtype)) {                   \
    case 1: return f<uint8_t>(__VA_ARGS__);   \
    case 2: return f<uint16_t>(__VA_ARGS__);  \
    case 4: return f<uint32_t>(__VA_ARGS__);  \
    default: return f<uint64_t>(__VA_ARGS__); \
  }

inline void gather(const Stack& stack, int64_t offset, int64_t n, void* to) {
  FASTMEF_FOR_SIZE(stack.dtype, gather_as, address(stack, offset), stack.column, n, to)
}

inline void scatter(const Stack& stack, int64_t offset, int64_t n, const void* from) {
  FASTMEF_FOR_SIZE(stack.dtype, scatter_as, from, stack.column, n, address(stack, offset))
}

inline void split_three(const Stack& stack, int64_t offset, int64_t n, void* a, void* b, void* c) {
  FASTMEF_FOR_SIZE(stack.dtype, split_three_as, address(stack, offset), n, a, b, c)
}

inline void join_three(const Stack& stack, int64_t offset, int64_t n, const void* a, const void* b,
                       const void* c) {
  FASTMEF_FOR_SIZE(stack.dtype, join_three_as, a, b, c, n, address(stack, offset))
}

// Returns whether an image has three channels that are neighbours in memory.
inline bool three_neighbours(const Stack& stack, int64_t channels) {
  return channels == 3 && stack.channel == 1 && stack.column == 3;
}

}  // namespace
}  // namespace fastmef
