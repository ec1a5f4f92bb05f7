// Arguments of softmax_fuse, shared by the binding and the instruction-set variants.
#pragma once

#include <stdint.h>

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

struct FuseArgs {
  int64_t batch, exposures_count, channels, height, width;
  double temperature;  // divides the logits
  Stack logits;        // (B, K, 1, H, W)
  Stack valid;         // optional uint8 (B, K, 1, H, W): an exposure is ignored where it is 0
  Stack exposures;     // (B, K, C, H, W)
  Stack fused;         // (B, 1, C, H, W), written by the forward pass
  Stack weights;       // (B, K, 1, H, W), optional
  // The backward pass reads the gradients w.r.t. fused and, optionally, weights, and writes those
  // w.r.t. logits and exposures.
  Stack grad_fused, grad_weights;
  Stack grad_logits, grad_exposures;
  int threads;
};

FASTMEF_KERNEL(softmax_fuse, void(const FuseArgs&, bool backward, bool in_double))

}  // namespace fastmef
