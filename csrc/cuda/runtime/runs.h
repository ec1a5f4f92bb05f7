// Loads and stores runs of V neighbouring values of any storage type, in accesses of at most 16
// bytes.
#pragma once

#include <cuda_runtime.h>

#include "common/convert.h"

namespace fastmef {

template <class S, int V>
struct alignas(sizeof(S) * V) Pack {
  S at[V];
};

// A type whose stores compilers do not split; they split a store of a Pack into its members.
template <int Bytes>
struct Word;
template <>
struct Word<1> {
  using type = uint8_t;
};
template <>
struct Word<2> {
  using type = uint16_t;
};
template <>
struct Word<4> {
  using type = uint32_t;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

// The number of values in one access.
template <class S, int V>
constexpr int kPack = V * sizeof(S) < 16 ? V : static_cast<int>(16 / sizeof(S));

template <class S, int V>
__device__ __forceinline__ void load_run(const S* from, float (&to)[V]) {
  constexpr int N = kPack<S, V>;
#pragma unroll
  for (int i = 0; i < V; i += N) {
    const Pack<S, N> pack = *reinterpret_cast<const Pack<S, N>*>(from + i);
#pragma unroll
    for (int j = 0; j < N; ++j) to[i + j] = to_number<float>(pack.at[j]);
  }
}

template <class S, int V>
__device__ __forceinline__ void store_run(const float (&from)[V], S* to) {
  constexpr int N = kPack<S, V>;
#pragma unroll
  for (int i = 0; i < V; i += N) {
    Pack<S, N> pack;
#pragma unroll
    for (int j = 0; j < N; ++j) from_number(from[i + j], pack.at[j]);
    typename Word<sizeof(pack)>::type word;
    memcpy(&word, &pack, sizeof(pack));
    *reinterpret_cast<decltype(word)*>(to + i) = word;
  }
}

// The functions below do the same for a floating-point type that is known at run time only.
template <int V>
__device__ __forceinline__ void load_float_run(const void* from, DType dtype, int64_t offset,
                                               float (&to)[V]) {
  if (dtype == kFloat32) {
    load_run(static_cast<const float*>(from) + offset, to);
  } else if (dtype == kFloat16) {
    load_run(static_cast<const Half*>(from) + offset, to);
  } else {
    load_run(static_cast<const BFloat*>(from) + offset, to);
  }
}

template <int V>
__device__ __forceinline__ void store_float_run(const float (&from)[V], void* to, DType dtype,
                                                int64_t offset) {
  if (dtype == kFloat32) {
    store_run(from, static_cast<float*>(to) + offset);
  } else if (dtype == kFloat16) {
    store_run(from, static_cast<Half*>(to) + offset);
  } else {
    store_run(from, static_cast<BFloat*>(to) + offset);
  }
}

}  // namespace fastmef
