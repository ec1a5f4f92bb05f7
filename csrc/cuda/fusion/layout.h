// The division of pixels among threads in softmax_fuse and its backward pass, which depends on the
// layout of the arrays.
#pragma once

#include "cuda/fusion/softmax_fuse.h"

namespace fastmef {

// Returns the number of runs of `pixels` in a row; the last one may be shorter.
FASTMEF_HD int64_t runs_of(const FuseArgs& a, int pixels) {
  return (a.width + pixels - 1) / pixels;
}

inline int64_t blocks_for(const FuseArgs& a, int pixels) {
  return (a.batch * a.height * runs_of(a, pixels) + kThreads - 1) / kThreads;
}

// Whether a run of V numbers fills 16-byte accesses. Only kernels of such runs have tails.
template <class S, int V>
constexpr bool kWide = V * sizeof(S) >= 16;

// Sets the strides of axes of size 1 to 0: they are never used and must not count as misaligned.
inline void forget_unused_strides(FuseArgs& a) {
  for (Stack* x : {&a.fused, &a.grad_fused}) x->layer = 0;
  for (Stack* x : {&a.logits, &a.valid, &a.weights, &a.grad_weights, &a.grad_logits})
    x->channel = 0;
}

// Joins rows that follow each other in memory to one row, so that rows are aligned for any width.
inline void join_rows(FuseArgs& a) {
  const Stack* all[] = {&a.logits,       &a.valid,       &a.exposures,
                        &a.fused,        &a.weights,     &a.grad_fused,
                        &a.grad_weights, &a.grad_logits, &a.grad_exposures};
  for (const Stack* x : all) {
    if (!rows_join(*x, a.height, a.width)) return;
  }
  a.width *= a.height;
  a.height = 1;
}

// Returns whether every array can be accessed in runs of `pixels`, where the images have `channels`
// neighbouring numbers for each pixel. With tails, one thread handles the rest of a row pixel by
// pixel, which pays in long rows only.
template <bool WithTails>
bool in_runs(const FuseArgs& a, int pixels, int channels) {
  if (a.width % pixels && (!WithTails || a.width < 8 * pixels)) return false;
  const Stack* planes[] = {&a.logits, &a.valid, &a.weights, &a.grad_weights, &a.grad_logits};
  for (const Stack* x : planes) {
    if (x->data && (x->column != 1 || !runs_align(*x, pixels, a.height))) return false;
  }
  for (const Stack* x : {&a.exposures, &a.fused, &a.grad_fused, &a.grad_exposures}) {
    if (!image_in_runs(*x, pixels, channels, a.height)) return false;
  }
  return true;
}

// Checks the arrays that the forward and the backward pass read.
inline void check_inputs(const char* operation, const FuseArgs& a, Arrays& arrays) {
  check_count(operation, a.count);
  check_sizes(operation, {a.batch, a.count, a.channels, a.height, a.width});
  if (!is_single_float(a.logits.dtype)) {
    refuse(operation, "logits must be float32, float16 or bfloat16");
  }
  if (a.valid.data && a.valid.dtype != kUInt8) refuse(operation, "valid must be uint8");
  const Sizes planes = {a.batch, a.count, 1, a.height, a.width};
  arrays.read("logits", a.logits, planes);
  arrays.read("valid", a.valid, planes);
  arrays.read("exposures", a.exposures, {a.batch, a.count, a.channels, a.height, a.width});
}

// Checks types: weights have any floating-point type, images have that of the exposures.
inline void check_types(const char* operation, const FuseArgs& a) {
  for (const Stack* x : {&a.weights, &a.grad_weights, &a.grad_logits}) {
    if (x->data && !is_single_float(x->dtype)) {
      refuse(operation, "weights and gradients must be float32, float16 or bfloat16");
    }
  }
  for (const Stack* x : {&a.fused, &a.grad_fused, &a.grad_exposures}) {
    if (x->data && x->dtype != a.exposures.dtype) {
      refuse(operation, "fused images and gradients must be of the type of the exposures");
    }
  }
}

}  // namespace fastmef
