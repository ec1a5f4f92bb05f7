// A strided array of any storage type.
#pragma once

#include <stdint.h>

#include "common/convert.h"

namespace fastmef {

// A strided (B, K, C, H, W) array. Strides count elements; `data` is null for an absent argument.
struct Stack {
  void* data;
  DType dtype;
  int64_t plane;    // stride of B
  int64_t layer;    // stride of K
  int64_t channel;  // stride of C
  int64_t row;
  int64_t column;
};

}  // namespace fastmef
