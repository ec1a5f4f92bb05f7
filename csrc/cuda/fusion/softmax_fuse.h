// Arguments of softmax_fuse and its kernels.
#pragma once

#include "cuda/runtime/checks.h"
#include "cuda/runtime/launch.h"

namespace fastmef {

struct FuseArgs {
  int64_t batch, channels, height, width;
  int count;                  // exposures
  float inverse_temperature;  // multiplies the logits
  Stack logits;               // (B, K, 1, H, W)
  Stack valid;      // optional uint8 (B, K, 1, H, W): an exposure is ignored where it is 0
  Stack exposures;  // (B, K, C, H, W)
  Stack fused;      // (B, 1, C, H, W), written by the forward pass
  Stack weights;    // (B, K, 1, H, W), optional
  // The backward pass reads the gradients w.r.t. fused and, optionally, weights, and writes those
  // w.r.t. logits and exposures.
  Stack grad_fused, grad_weights;
  Stack grad_logits, grad_exposures;
};

void softmax_fuse(FuseArgs args, const DeviceAndStream& on);
void softmax_fuse_backward(FuseArgs args, const DeviceAndStream& on);

}  // namespace fastmef
