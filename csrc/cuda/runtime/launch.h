// Launches kernels on the caller's device and stream, without synchronising, and checks every
// status.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#include <stdexcept>
#include <string>

namespace fastmef {

// Declares shared memory whose size is given in the launch, as float4[].
#ifndef FASTMEF_DYNAMIC_SHARED
#define FASTMEF_DYNAMIC_SHARED(name) extern __shared__ float4 name[]
#endif

constexpr int kThreads = 256;  // the threads of a block, unless a kernel needs another number

// The device and the stream of a launch.
struct DeviceAndStream {
  int device;
  cudaStream_t stream;
};

// Throws if a call of the CUDA run-time failed.
inline void check(const char* operation, cudaError_t status) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(operation) + ": " + cudaGetErrorString(status));
  }
}

// Launches a kernel with one argument; `shared` is the size of its dynamic shared memory in bytes.
template <class Args>
void launch(const char* operation, void (*kernel)(Args), const Args& args, int64_t blocks,
            int threads, const DeviceAndStream& on, size_t shared = 0) {
  if (blocks > INT32_MAX) {
    throw std::invalid_argument(std::string(operation) +
                                ": needs more than 2^31 - 1 blocks of threads");
  }
  int former = -1;
  check(operation, cudaGetDevice(&former));
  if (former != on.device) check(operation, cudaSetDevice(on.device));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = on.stream;
  // The caller's device becomes current again even if the launch fails.
  cudaError_t launched = cudaSuccess;
  if (shared > 48 * 1024) {  // larger sizes must be requested
    launched =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  }
  if (launched == cudaSuccess) launched = cudaLaunchKernelEx(&config, kernel, args);
  const cudaError_t left = cudaGetLastError();
  if (former != on.device) check(operation, cudaSetDevice(former));
  check(operation, launched);
  check(operation, left);
}

}  // namespace fastmef
