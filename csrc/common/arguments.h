// How Python hands arrays over: as integers, so that nothing of PyTorch is needed to build a
// module.
#pragma once

#include <array>
#include <cstdint>

#include "common/stack.h"

namespace fastmef {

inline void* pointer(int64_t address) {
  return reinterpret_cast<void*>(static_cast<intptr_t>(address));
}

// (address, dtype, stride of B, of K, of C, of H, of W); address 0 for an absent array.
using StackTuple = std::array<int64_t, 7>;

inline Stack stack(const StackTuple& t) {
  return {pointer(t[0]), static_cast<DType>(t[1]), t[2], t[3], t[4], t[5], t[6]};
}

}  // namespace fastmef
