// Divides a block of scratch memory into arrays that are aligned to cache lines. Without a block it
// only counts the bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastmef {
namespace {

class Arena {
 public:
  explicit Arena(void* block) : block_(static_cast<char*>(block)) {}

  // Returns an array of `count` values, null without a block.
  template <class T>
  T* take(int64_t count) {
    char* out = block_ ? block_ + used_ : nullptr;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(out);
  }

  size_t used() const { return used_; }

 private:
  char* block_;
  size_t used_ = 0;
};

}  // namespace
}  // namespace fastmef
