// Arguments of softmax_fuse, passed to the kernels as they are.
#pragma once

#include "cuda/runtime/checks.h"
#include "cuda/runtime/launch.h"

namespace fastmef {

struct FuseArgs {
  int64_t batch, channels, height, width;
  int count;                  // exposures
  float inverse_temperature;  // the logits are multiplied by it
  Stack logits;               // (B, K, 1, H, W)
  Stack valid;                // optional uint8 (B, K, 1, H, W): 0 leaves an exposure out of a pixel
  Stack exposures;            // (B, K, C, H, W)
  Stack fused;                // (B, 1, C, H, W), written by the forward pass
  Stack weights;              // (B, K, 1, H, W), optional
  // Backward: gradients of fused and, optionally, weights come in; the two others go out.
  Stack grad_fused, grad_weights;
  Stack grad_logits, grad_exposures;
};

void softmax_fuse(FuseArgs args, const Place& place);
void softmax_fuse_backward(FuseArgs args, const Place& place);

}  // namespace fastmef
