// Arguments of the loss sweep, shared by the binding and the instruction-set variants.
#pragma once

#include <stdint.h>

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// One scale: images of size (height, width), windows of taps_y x taps_x, its share of the total.
struct Level {
  int64_t height;
  int64_t width;
  int wy;
  int wx;
  const double* taps_y;
  const double* taps_x;
  double share;
};

// Images have one channel. Everything but the value is stored in one type; float16 and bfloat16 are
// computed in float32.
struct LossArgs {
  int64_t batch;
  int64_t exposures_count;
  int level_count;
  const Level* levels;
  Stack fused;          // (B, 1, H, W); absent when the fused image comes from logits
  Stack logits;         // (B, K, H, W)
  Stack exposures;      // (B, K, H, W)
  Stack weight;         // optional (B, 1, H, W): importance of window centres, or of windows
  bool weight_is_mask;  // at centres, normalised by its sum; otherwise an grad_output gradient
  int attributes;
  bool luminance;
  double c1, c2, floor, eps;
  Stack grad;         // optional: (B, 1, H, W) of fused, or (B, K, H, W) of logits; dense rows
  double grad_scale;  // what the gradient is multiplied by
  Stack map;          // optional (B, 1, H', W'), dense rows: 1 - quality, first level only
  int threads;
};

FASTMEF_KERNEL(weighted_ssim_loss, double(const LossArgs&, bool in_double))

}  // namespace fastmef
