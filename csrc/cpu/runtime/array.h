// std::vector is not used: its code would be compiled for several instruction sets under one name,
// of which the linker keeps one.
#pragma once

#include <stdint.h>

namespace fastmef {
namespace {

// A small array that frees itself. Its values are 0 at first.
template <class T>
struct Array {
  explicit Array(int64_t count) : data(count ? new T[count]() : nullptr) {}
  ~Array() { delete[] data; }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* data;
};

}  // namespace
}  // namespace fastmef
