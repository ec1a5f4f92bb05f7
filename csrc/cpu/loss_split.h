// Sums of dL/dF over the levels in float32, in the room of a gradient of 16-bit numbers.
//
// Summed in float16 or bfloat16 the gradient would lose what a level adds to the ones before. So
// the upper 16 bits of each sum lie in the first plane of the gradient and the lower ones in a
// second plane: the next one of the logits' gradient, or memory of its own where there is none. The
// last step reads both and writes the gradient.
#pragma once

#include "filter_rows.h"
#include "storage.h"

namespace fastmef {
namespace {

// The second plane; without data the levels are not split.
struct Low {
  uint16_t* data;
  int64_t plane;  // stride of B
};

struct SplitRow {
  uint16_t* high;
  uint16_t* low;
};

inline SplitRow split_at(const Stack& gradient, const Low& low, int64_t b, int64_t y, int64_t x) {
  const int64_t in_plane = y * gradient.row + x * gradient.column;
  return {reinterpret_cast<uint16_t*>(address(gradient, b * gradient.plane + in_plane)),
          low.data + b * low.plane + in_plane};
}

template <class T>
void split_row(const T* FASTMEF_RESTRICT in, int64_t n, const SplitRow& out) {
  uint16_t* FASTMEF_RESTRICT high = out.high;
  uint16_t* FASTMEF_RESTRICT low = out.low;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    const uint32_t bits = bits_of(static_cast<float>(in[x]));
    high[x] = static_cast<uint16_t>(bits >> 16);
    low[x] = static_cast<uint16_t>(bits & 0xffffu);
  }
}

template <class T>
void join_row(const SplitRow& in, int64_t n, T* FASTMEF_RESTRICT out) {
  const uint16_t* FASTMEF_RESTRICT high = in.high;
  const uint16_t* FASTMEF_RESTRICT low = in.low;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    out[x] = float_of(static_cast<uint32_t>(high[x]) << 16 | low[x]);
  }
}

}  // namespace
}  // namespace fastmef
