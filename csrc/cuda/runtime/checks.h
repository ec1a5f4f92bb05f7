// Checks before a launch. They refuse cases in which a kernel would access memory out of bounds,
// which the GPU would report late or never. Errors begin with the operation's name.
#pragma once

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/runtime/layout.h"

namespace fastmef {

constexpr int kMostExposures = 8;  // the weights of more do not fit into a thread's registers

// (B, K, C, H, W) of an array.
using Sizes = std::array<int64_t, 5>;

[[noreturn]] inline void refuse(const char* operation, const std::string& what) {
  throw std::invalid_argument(std::string(operation) + ": " + what);
}

inline void check_count(const char* operation, int count) {
  if (count < 1 || count > kMostExposures) {
    refuse(operation, "takes 1 to 8 exposures, got " + std::to_string(count));
  }
}

// Refuses empty arrays, for which the division of work would have sizes of 0.
inline void check_sizes(const char* operation, const Sizes& sizes) {
  std::string text;
  bool empty = false;
  for (const int64_t size : sizes) {
    text += (text.empty() ? "" : " x ") + std::to_string(size);
    empty = empty || size < 1;
  }
  if (empty) refuse(operation, "takes images with at least one pixel, got " + text);
}

inline bool is_single_float(DType dtype) { return dtype >= kFloat16 && dtype <= kFloat32; }

// Returns contiguous memory as a stack of one row.
inline Stack dense(const void* data, DType dtype) {
  return {const_cast<void*>(data), dtype, 0, 0, 0, 0, 1};
}

// Checks the arrays of one call: first those that are read, then those that are written.
class Arrays {
 public:
  explicit Arrays(const char* operation) : operation_(operation) {}

  void read(const char* name, const Stack& x, const Sizes& sizes) {
    if (x.data) add(name, x, sizes);
  }

  // A written array must neither share memory with another array nor have two values at one
  // address.
  void written(const char* name, const Stack& x, const Sizes& sizes) {
    if (!x.data) return;
    if (!elements_are_apart(x, sizes)) refuse(operation_, name + std::string(" overlaps itself"));
    const std::vector<Range> others = ranges_;
    const Range mine = add(name, x, sizes);
    for (const Range& other : others) {
      if (mine.begin < other.end && other.begin < mine.end) {
        refuse(operation_, name + std::string(" overlaps ") + other.name);
      }
    }
  }

 private:
  struct Range {
    const char* name;
    uintptr_t begin, end;
  };

  static std::array<int64_t, 5> strides(const Stack& x) {
    return {x.plane, x.layer, x.channel, x.row, x.column};
  }

  // Returns whether the stride of every axis exceeds the range of the axes with smaller strides.
  static bool elements_are_apart(const Stack& x, const Sizes& sizes) {
    std::array<std::pair<int64_t, int64_t>, 5> axes;  // stride and size
    for (int i = 0; i < 5; ++i) axes[i] = {strides(x)[i], sizes[i]};
    std::sort(axes.begin(), axes.end());
    int64_t reached = 0;
    for (const auto& [stride, size] : axes) {
      if (size == 1) continue;
      if (stride <= reached) return false;
      reached += stride * (size - 1);
    }
    return true;
  }

  // Checks the alignment of an array and records its range of addresses.
  Range add(const char* name, const Stack& x, const Sizes& sizes) {
    const int64_t bytes = size_of(x.dtype);
    const uintptr_t begin = reinterpret_cast<uintptr_t>(x.data);
    if (begin % bytes) {
      refuse(operation_, std::string("the address of ") + name + " must be a multiple of " +
                             std::to_string(bytes));
    }
    int64_t last = 0;
    for (int i = 0; i < 5; ++i) last += strides(x)[i] * (sizes[i] - 1);
    ranges_.push_back({name, begin, begin + (last + 1) * bytes});
    return ranges_.back();
  }

  const char* operation_;
  std::vector<Range> ranges_;
};

}  // namespace fastmef
