// What every launch is given by Python. Arrays arrive as addresses and strides, device and stream
// as numbers, so that nothing of PyTorch is needed to build the module.
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
