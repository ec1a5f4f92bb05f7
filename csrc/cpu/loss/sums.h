// Sums of dL/dF over the coarser levels, in the room of the gradient itself.
//
// They have the size of the first of those levels, so each has the room of 2x2 pixels until the
// finest level, the last to be swept, turns it into the gradient of those pixels. In float32 or
// float64 it lies at the upper left of them. A gradient of 16-bit numbers is rounded once, so the
// sum keeps float32 there: its upper half at the upper left pixel and the lower half at the one
// below, or in memory of its own for a last row that has none below.
#pragma once

#include "cpu/runtime/storage.h"
#include "cpu/window/down.h"

namespace fastmef {
namespace {

class Sums {
 public:
  Sums(const Stack& gradient, int64_t height, uint16_t* last, int64_t last_plane)
      : gradient_(gradient), height_(height), last_(last), last_plane_(last_plane) {}

  // n sums of row y from column x on.
  template <class T>
  void read(int64_t b, int64_t y, int64_t x, int64_t n, T* FASTMEF_RESTRICT out) const {
    const int64_t at = offset_of(gradient_, b, 0, 2 * y, 2 * x);
    if (holds(gradient_, T())) return fastmef::read(gradient_, at, 2, n, out);
    const uint16_t* FASTMEF_RESTRICT high = upper(at);
    const uint16_t* FASTMEF_RESTRICT low = lower(b, y, x, at);
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) {
      out[i] = static_cast<T>(float_of(static_cast<uint32_t>(high[2 * i]) << 16 | low[2 * i]));
    }
  }

  template <class T>
  void write(int64_t b, int64_t y, int64_t x, int64_t n, const T* FASTMEF_RESTRICT in) const {
    const int64_t at = offset_of(gradient_, b, 0, 2 * y, 2 * x);
    if (holds(gradient_, T())) return fastmef::write(gradient_, at, 2, n, in);
    uint16_t* FASTMEF_RESTRICT high = upper(at);
    uint16_t* FASTMEF_RESTRICT low = lower(b, y, x, at);
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t bits = bits_of(static_cast<float>(in[i]));
      high[2 * i] = static_cast<uint16_t>(bits >> 16);
      low[2 * i] = static_cast<uint16_t>(bits & 0xffffu);
    }
  }

 private:
  uint16_t* upper(int64_t at) const { return reinterpret_cast<uint16_t*>(address(gradient_, at)); }
  uint16_t* lower(int64_t b, int64_t y, int64_t x, int64_t at) const {
    return 2 * y + 1 < height_ ? upper(at + gradient_.row) : last_ + b * last_plane_ + 2 * x;
  }

  const Stack& gradient_;
  int64_t height_;
  uint16_t* last_;
  int64_t last_plane_;
};

}  // namespace
}  // namespace fastmef
