// Arguments of the one-pass loss, passed to the kernels as they are.
#pragma once

#include "cuda/runtime/launch.h"
#include "cuda/runtime/layout.h"

namespace fastmef {

constexpr int kWindow = 11;  // the only window these kernels know

struct LossArgs {
  int64_t batch, height, width;
  int count;  // exposures: 2 or 3
  bool from_logits;
  Stack source;      // F (B, 1, 1, H, W) or logits (B, K, 1, H, W)
  Stack exposures;   // (B, K, 1, H, W), grey
  Stack gradient;    // of the source, optional
  double* partials;  // room for loss_blocks() sums
  float* value;
  float taps[kWindow];
  int attributes;
  bool luminance;
  float c1, c2, floor, eps;
  float gradient_scale;  // what the gradient is multiplied by
  // The division of the image, filled in by the launcher.
  int64_t strips, chunks;  // across and down
  int64_t columns, rows;   // pixels of one
};

// How many blocks divide the work, and so how many sums there are.
int64_t loss_blocks(int64_t batch, int64_t height, int64_t width);

// 1 - mean_p sum_k gamma_k SSIM(F, I_k) and its gradient w.r.t. the source.
void fusion_loss(LossArgs args, const Place& place);

}  // namespace fastmef
