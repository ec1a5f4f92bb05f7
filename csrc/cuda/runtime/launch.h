// Starting kernels: on the caller's device and stream, without synchronising, every status checked.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#include <stdexcept>
#include <string>

namespace fastmef {

// Shared memory whose size the launch says, as float4[].
#ifndef FASTMEF_DYNAMIC_SHARED
#define FASTMEF_DYNAMIC_SHARED(name) extern __shared__ float4 name[]
#endif

constexpr int kThreads = 256;  // of a block, where a kernel has no reason for another number

// Where Python wants the work done.
struct DeviceAndStream {
  int device;
  cudaStream_t stream;
};

inline void check(const char* operation, cudaError_t status) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(operation) + ": " + cudaGetErrorString(status));
  }
}

template <class Args>
void launch(const char* operation, void (*kernel)(Args), const Args& args, int64_t blocks,
            int threads, const DeviceAndStream& on, size_t shared = 0) {
  if (blocks > INT32_MAX) {
    throw std::invalid_argument(std::string(operation) + ": more than 2^31 - 1 blocks of threads");
  }
  int former = -1;
  check(operation, cudaGetDevice(&former));
  if (former != on.device) check(operation, cudaSetDevice(on.device));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = on.stream;
  // The caller's device becomes current again whatever the launch says.
  cudaError_t launched = cudaSuccess;
  if (shared > 48 * 1024) {  // more than a kernel may have without asking
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
