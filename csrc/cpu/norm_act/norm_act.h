// Batch normalisation, ReLU and what follows, of dense channels-last images, forward and backward.
//
//   z = (x - mean) * scale + bias,   scale = weight / sqrt(variance + eps),   y = max(z, 0)
//   g = dL/dy where z > 0,   dL/dx = scale (g - s0 / n - (x - mean) s1 / (n (variance + eps)))
//
// with s0 and s1 the sums of g and of g (x - mean) over the n values of a channel.
//
// What follows is y itself, its 2x2 maximum or its bilinear upsampling by 2, with a margin of
// `margin` repeated border pixels.
#pragma once

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

enum NormActThen { kSame, kPool, kBilinear };

// The height or width of what follows, without its margin.
constexpr int64_t size_after(NormActThen then, int64_t size) {
  return then == kPool ? size / 2 : then == kBilinear ? 2 * size : size;
}

// Images have one storage type; vectors have one value for each channel.
struct NormActArgs {
  int64_t batch, height, width, channels;  // of x
  NormActThen then;
  int64_t margin;  // 0 or 1
  Stack x;
  Stack mean, variance;
  Stack weight, bias;  // optional
  double eps;
  Stack grad_y, grad_after;  // optional: dL/dy, and the gradient w.r.t. what follows
  Stack sums, count;  // optional: s0 and s1, and n; without them the statistics are constants
  Stack out;          // (3, channels) mean, variance, n; y; (2, channels) s0, s1; dL/dx
  Stack after;        // what follows; from the step of sums, dL/dy where that is bilinear
  int threads;
};

enum NormActStep { kStatistics, kForward, kSums, kGradient };

FASTMEF_KERNEL(norm_act, void(const NormActArgs&, NormActStep step))

}  // namespace fastmef
