// Arguments of the loss sweep, shared by the binding and the instruction-set variants.
#pragma once

#include <stdint.h>

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// One scale: images of size (height, width), windows of taps_y x taps_x, and its weight in the
// loss; the weights of all levels sum to 1.
struct Level {
  int64_t height;
  int64_t width;
  int wy;
  int wx;
  const double* taps_y;
  const double* taps_x;
  double loss_weight;
};

// Images have one channel. All arrays have one storage type; float16 and bfloat16 are computed in
// float32.
struct LossArgs {
  int64_t batch;
  int64_t exposures_count;
  int level_count;
  const Level* levels;
  Stack fused;          // (B, 1, H, W); absent when the fused image comes from logits
  Stack logits;         // (B, K, H, W)
  Stack exposures;      // (B, K, H, W)
  Stack weight;         // optional: a mask (B, 1, H, W), or the gradient w.r.t. the map
  bool weight_is_mask;  // a mask weights window centres and is normalised by its sum
  int attributes;
  bool luminance;
  double c1, c2, floor, eps;
  Stack grad;         // optional: w.r.t. fused (B, 1, H, W) or logits (B, K, H, W); dense rows
  double grad_scale;  // the factor of the gradient
  Stack map;          // optional (B, 1, H', W'), dense rows: 1 - quality of the first level
  int threads;
};

FASTMEF_KERNEL(weighted_ssim_loss, double(const LossArgs&, bool in_double))

}  // namespace fastmef
