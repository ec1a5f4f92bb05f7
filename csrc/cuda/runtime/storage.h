// Selects the kernel that was compiled for the storage type of a call.
#pragma once

#include "cuda/runtime/checks.h"

namespace fastmef {

// Calls function(S()) with S for `dtype`: any type of at most 32 bits.
template <class Function>
void dispatch_storage(const char* operation, DType dtype, const Function& function) {
  switch (dtype) {
    case kUInt8: return function(uint8_t());
    case kUInt16: return function(uint16_t());
    case kFloat16: return function(Half());
    case kBFloat16: return function(BFloat());
    case kFloat32: return function(float());
    default: refuse(operation, "exposures must be of at most 32 bits");
  }
}

// Does the same for the types that have gradients.
template <class Function>
void dispatch_float(const char* operation, DType dtype, const Function& function) {
  switch (dtype) {
    case kFloat16: return function(Half());
    case kBFloat16: return function(BFloat());
    case kFloat32: return function(float());
    default: refuse(operation, "tensors must be float32, float16 or bfloat16");
  }
}

}  // namespace fastmef
