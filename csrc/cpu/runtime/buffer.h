// A large array that is aligned to cache lines and frees itself. Its values are not initialised.
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include <new>

namespace fastmef {
namespace {

template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : block_(malloc(static_cast<size_t>(count) * sizeof(T) + 64)) {
    if (!block_) throw std::bad_alloc();
    data = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(block_) + 63) / 64 * 64);
  }
  ~Buffer() { free(block_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data;

 private:
  void* const block_;
};

}  // namespace
}  // namespace fastmef
