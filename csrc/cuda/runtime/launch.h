// Starting kernels: on the caller's device and stream, without synchronising, every status checked.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#include <stdexcept>
#include <string>

namespace fastmef {

constexpr int kThreads = 256;  // of a block, where a kernel has no reason for another number

// Where Python wants the work done.
struct Place {
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
            int threads, const Place& place) {
  if (blocks > INT32_MAX) {
    throw std::invalid_argument(std::string(operation) + ": more than 2^31 - 1 blocks of threads");
  }
  int former = -1;
  check(operation, cudaGetDevice(&former));
  if (former != place.device) check(operation, cudaSetDevice(place.device));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = place.stream;
  // The caller's device becomes current again whatever the launch says.
  const cudaError_t launched = cudaLaunchKernelEx(&config, kernel, args);
  const cudaError_t left = cudaGetLastError();
  if (former != place.device) check(operation, cudaSetDevice(former));
  check(operation, launched);
  check(operation, left);
}

}  // namespace fastmef
