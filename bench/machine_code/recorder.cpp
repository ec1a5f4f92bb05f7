// A replacement for the CUDA runtime that runs no kernel and reports each launch to a listener. It
// is linked with the CUDA C++ kernels instead of cudart, so that their own launchers choose grids
// and arguments.

#include <cuda_runtime_api.h>

#include <map>
#include <string>

namespace {

std::map<const void*, std::string>& names() {
  static std::map<const void*, std::string> found;
  return found;
}

// Arguments: kernel, grid, threads per block, bytes of dynamic shared memory, kernel arguments.
using Listener = void (*)(const char*, unsigned, unsigned, unsigned, unsigned, unsigned, void**);
Listener listener = nullptr;
dim3 pushed_grid, pushed_block;
size_t pushed_shared;
cudaStream_t pushed_stream;

cudaError_t tell(const void* function, dim3 grid, dim3 block, size_t shared, void** arguments) {
  if (!listener) return cudaErrorNotReady;
  listener(names().at(function).c_str(), grid.x, grid.y, grid.z, block.x * block.y * block.z,
           static_cast<unsigned>(shared), arguments);
  return cudaSuccess;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) void fastmef_listen(Listener to) { listener = to; }

void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* device, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
  names()[host] = device;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  pushed_grid = grid, pushed_block = block, pushed_shared = shared, pushed_stream = stream;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = pushed_grid, *block = pushed_block, *shared = pushed_shared;
  *static_cast<cudaStream_t*>(stream) = pushed_stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared, cudaStream_t) {
  return tell(reinterpret_cast<const void*>(kernel), grid, block, shared, arguments);
}
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             size_t shared, cudaStream_t) {
  return tell(function, grid, block, shared, arguments);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** arguments) {
  return tell(function, config->gridDim, config->blockDim, config->dynamicSmemBytes, arguments);
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "the recorder has no listener"; }
}
