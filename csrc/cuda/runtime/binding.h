// The common arguments of bindings. Python passes arrays as addresses and strides, and device and
// stream as numbers, so that the module is built without PyTorch.
#pragma once

#include "common/binding.h"
#include "cuda/runtime/launch.h"

namespace fastmef {

// (device, stream)
using DeviceAndStreamTuple = std::array<int64_t, 2>;

inline DeviceAndStream device_and_stream(const DeviceAndStreamTuple& t) {
  return {static_cast<int>(t[0]), reinterpret_cast<cudaStream_t>(pointer(t[1]))};
}

// (B, K, C, H, W)
using Shape = std::array<int64_t, 5>;

}  // namespace fastmef
