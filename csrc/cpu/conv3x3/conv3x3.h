// 3x3 convolutions of dense channels-last images in float32, and their gradients, by Winograd's
// F(2x2, 3x3): a tile of 2x2 outputs takes 16 products of every pair of channels instead of 36.
//
//   Y = A' [ (G w G') o (B' X B) ] A       X: 4x4 inputs, w: 3x3 weights, Y: 2x2 outputs
//   dL/dw = G' [ sum of (A dL/dY A') o (B' X B) over all tiles ] G
//
// The sums over channels of one of the 16 positions in a tile are a product of matrices. The
// gradient w.r.t. the input is the convolution of dL/dY with the mirrored weights.
// Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308.
#pragma once

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// Numbers of channels are multiples of this.
constexpr int64_t kChannelGroup = 16;

// out_height = height + 2 padding - 2, and so is the width.
struct Conv3x3Args {
  int64_t batch, height, width, in_channels, out_channels;  // of the input
  int64_t padding;                                          // zeros beyond the border
  Stack input;                                              // (batch, in_channels, height, width)
  Stack weight;   // B: out_channels, C: in_channels, H, W: 3; any strides; the result of a gradient
  Stack output;   // the result, or dL/dY
  bool mirrored;  // whether weights are mirrored, and their channels exchanged
  int threads;
};

FASTMEF_KERNEL(conv3x3, void(const Conv3x3Args&))
FASTMEF_KERNEL(conv3x3_weight_gradient, void(const Conv3x3Args&))

}  // namespace fastmef
