// Reads and writes rows of any storage type, converted to the type that is used in computations.
#pragma once

#include "common/stack.h"
#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

// Reads n values, `step` elements apart.
template <class S, class T>
void read_as(const void* from, int64_t step, int64_t n, T* FASTMEF_RESTRICT out) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(from);
  if (step == 1) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] = to_number<T>(in[x]);
  } else if (step == 3) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] = to_number<T>(in[3 * x]);
  } else {
    for (int64_t x = 0; x < n; ++x) out[x] = to_number<T>(in[x * step]);
  }
}

template <class S, class T>
void write_as(const T* FASTMEF_RESTRICT in, int64_t step, int64_t n, void* to) {
  S* FASTMEF_RESTRICT out = static_cast<S*>(to);
  if (step == 1) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) from_number(in[x], out[x]);
  } else {
    for (int64_t x = 0; x < n; ++x) from_number(in[x], out[x * step]);
  }
}

// Calls f<S>() for the storage type S of dtype.
#define FASTMEF_FOR_STORAGE(dtype, f, ...)         \
  switch (dtype) {                                 \
    case kUInt8: return f<uint8_t>(__VA_ARGS__);   \
    case kUInt16: return f<uint16_t>(__VA_ARGS__); \
    case kFloat16: return f<Half>(__VA_ARGS__);    \
    case kBFloat16: return f<BFloat>(__VA_ARGS__); \
    case kFloat32: return f<float>(__VA_ARGS__);   \
    case kFloat64: return f<double>(__VA_ARGS__);  \
  }

// Returns the address of an element.
inline char* address(const Stack& stack, int64_t offset) {
  return static_cast<char*>(stack.data) + offset * size_of(stack.dtype);
}

inline int64_t offset_of(const Stack& stack, int64_t b, int64_t k, int64_t c, int64_t y,
                         int64_t x) {
  return b * stack.plane + k * stack.layer + c * stack.channel + y * stack.row + x * stack.column;
}
// Returns the offset in an array of one channel.
inline int64_t offset_of(const Stack& stack, int64_t b, int64_t k, int64_t y, int64_t x) {
  return offset_of(stack, b, k, 0, y, x);
}

template <class T>
void read(const Stack& stack, int64_t offset, int64_t step, int64_t n, T* out) {
  FASTMEF_FOR_STORAGE(stack.dtype, read_as, address(stack, offset), step, n, out)
}

template <class T>
void write(const Stack& stack, int64_t offset, int64_t step, int64_t n, const T* in) {
  FASTMEF_FOR_STORAGE(stack.dtype, write_as, in, step, n, address(stack, offset))
}

// Returns whether an array has the type of the second argument.
inline bool holds(const Stack& stack, float) { return stack.dtype == kFloat32; }
inline bool holds(const Stack& stack, double) { return stack.dtype == kFloat64; }

// Returns n values of a row: the array itself if it is dense and has the type T, else a copy.
template <class T>
const T* dense_row(const Stack& stack, int64_t offset, int64_t n, T* copy) {
  if (stack.column == 1 && holds(stack, T())) {
    return reinterpret_cast<const T*>(address(stack, offset));
  }
  read(stack, offset, stack.column, n, copy);
  return copy;
}

}  // namespace
}  // namespace fastmef
