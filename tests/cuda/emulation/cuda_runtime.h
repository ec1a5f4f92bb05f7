// Stands in for CUDA's header, so that a C++ compiler builds the kernels' own source for the CPU.
// Blocks run one after the other. The threads of a block are fibers that change over at barriers
// only. Tests let both run from the last to the first as well: what depends on the order is a
// missing barrier, or a block that writes into the part of another.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __constant__
#define __grid_constant__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

typedef struct Stream* cudaStream_t;
typedef int cudaError_t;
constexpr cudaError_t cudaSuccess = 0;
constexpr cudaError_t cudaErrorInvalidValue = 1;
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr size_t kStack = 128 * 1024;

struct State {
  std::vector<ucontext_t> fibers;
  std::vector<std::vector<char>> stacks;
  std::vector<bool> done;
  ucontext_t scheduler;
  unsigned running = 0;
  std::function<void()> body;
  cudaError_t error = cudaSuccess;
  int device = 0;
  unsigned launched = 0;          // threads, by the last launch
  unsigned launches = 0;          // so far
  cudaStream_t stream = nullptr;  // of the last launch
  bool backwards = true;
  bool blocks_backwards = false;  // blocks of some kernels wait for those of lower numbers
  int refused = -1;               // so many calls from now one fails
};

inline State& state() {
  static State s;
  return s;
}

inline void fiber() {
  State& s = state();
  s.body();
  s.done[s.running] = true;
  swapcontext(&s.fibers[s.running], &s.scheduler);
}

inline void run_block() {
  State& s = state();
  const unsigned count = blockDim.x;
  s.fibers.assign(count, ucontext_t());
  s.stacks.resize(count, std::vector<char>(kStack));
  s.done.assign(count, false);
  for (unsigned i = 0; i < count; ++i) {
    getcontext(&s.fibers[i]);
    s.fibers[i].uc_stack.ss_sp = s.stacks[i].data();
    s.fibers[i].uc_stack.ss_size = kStack;
    s.fibers[i].uc_link = nullptr;
    makecontext(&s.fibers[i], fiber, 0);
  }
  for (bool left = true; left;) {
    left = false;
    for (unsigned step = 0; step < count; ++step) {
      const unsigned i = s.backwards ? count - 1 - step : step;
      if (s.done[i]) continue;
      s.running = i;
      threadIdx = dim3(i);
      swapcontext(&s.scheduler, &s.fibers[i]);
      left = left || !s.done[i];
    }
  }
}

// The status of a call that the GPU may refuse.
inline cudaError_t answer(cudaError_t status = cudaSuccess) {
  return state().refused-- == 0 ? cudaErrorInvalidValue : status;
}

template <class T>
struct Type {
  using type = T;
};

constexpr size_t kMostShared = 227 * 1024;

inline float4* shared_memory() {
  static std::vector<float4> memory(kMostShared / sizeof(float4));
  return memory.data();
}

}  // namespace emulation

// Blocks run one at a time, so memory that exists once serves each of them in turn.
#define __shared__ static
#define FASTMEF_DYNAMIC_SHARED(name) float4* const name = emulation::shared_memory()

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }

inline void __threadfence() {}
// Called by a thread that waits for another block. All blocks before this one are done.
inline void __nanosleep(unsigned) { abort(); }
template <class T>
T __ldcg(const T* from) {
  return *from;
}
inline unsigned atomicAdd(unsigned* at, unsigned value) {
  const unsigned former = *at;
  *at += value;
  return former;
}

inline void __syncthreads() {
  emulation::State& s = emulation::state();
  swapcontext(&s.fibers[s.running], &s.scheduler);
}

template <class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Arguments...),
                               typename emulation::Type<Arguments>::type... arguments) {
  emulation::State& s = emulation::state();
  if (emulation::answer() != cudaSuccess) return cudaErrorInvalidValue;
  blockDim = config->blockDim;
  gridDim = config->gridDim;
  // What the GPU would refuse.
  const bool fits = config->dynamicSmemBytes <= emulation::kMostShared;
  if (blockDim.x > 1024 || !fits) return s.error = cudaErrorInvalidValue;
  s.launched = gridDim.x * blockDim.x;
  ++s.launches;
  s.stream = config->stream;
  s.body = [&] { kernel(arguments...); };
  for (unsigned i = 0; i < gridDim.x; ++i) {
    blockIdx = dim3(s.blocks_backwards ? gridDim.x - 1 - i : i);
    emulation::run_block();
  }
  return cudaSuccess;
}

inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  return emulation::answer();
}
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulation::state().error;
  emulation::state().error = cudaSuccess;
  return emulation::answer(error);
}
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid argument";
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = emulation::state().device;
  return emulation::answer();
}
inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device > 1) return cudaErrorInvalidValue;
  const cudaError_t status = emulation::answer();
  // The first device comes back in any case: a test must not begin on another.
  if (device == 0 || status == cudaSuccess) emulation::state().device = device;
  return status;
}

// For tests, which find it by its name: what a kernel does for many pixels at once needs few.
extern "C" __attribute__((visibility("default"), used)) inline unsigned launched_threads() {
  return emulation::state().launched;
}

extern "C" __attribute__((visibility("default"), used)) inline unsigned launches() {
  return emulation::state().launches;
}

// For tests: the call `later` from now fails. Returns how many were left of the former order.
extern "C" __attribute__((visibility("default"), used)) inline int refuse_call(int later) {
  const int left = emulation::state().refused;
  emulation::state().refused = later;
  return left;
}

extern "C" __attribute__((visibility("default"), used)) inline void run_backwards(int threads,
                                                                                  int blocks) {
  emulation::state().backwards = threads != 0;
  emulation::state().blocks_backwards = blocks != 0;
}

extern "C" __attribute__((visibility("default"), used)) inline uintptr_t last_stream() {
  return reinterpret_cast<uintptr_t>(emulation::state().stream);
}

extern "C" __attribute__((visibility("default"), used)) inline int current_device() {
  return emulation::state().device;
}
