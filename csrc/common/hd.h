// Functions marked FASTMEF_HD hold the arithmetic of one pixel. They compile for the host and,
// under nvcc, for the device, so that a machine without a GPU tests the arithmetic of a GPU.
#pragma once

#if defined(__CUDACC__)
#define FASTMEF_HD __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define FASTMEF_HD static __forceinline
#else
// `static` gives internal linkage. The same header is compiled for several instruction sets, and
// the linker must never pick the AVX-512 copy of a function for the baseline.
#define FASTMEF_HD static inline __attribute__((always_inline))
#endif
