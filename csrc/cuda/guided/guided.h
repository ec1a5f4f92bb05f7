// Arguments of the full-size passes of guided_upsample_fuse, passed to the kernels as they are.
#pragma once

#include "cuda/runtime/launch.h"
#include "cuda/runtime/layout.h"

namespace fastmef {

struct GuidedArgs {
  int64_t batch, height, width;  // of the exposures
  int64_t rows, columns;         // of the small images, at most as many
  int count;                     // exposures: up to eight
  float gray[3];                 // the guide of a pixel: their products with R, G, B, summed
  Stack exposures;               // (B, K, 3, H, W)
  Stack fused;                   // (B, 1, 3, H, W)
  const float* slopes;           // (B, K, h, w), contiguous
  const float* offsets;          // the same
  float* guide;                  // (B, 1, h, w), contiguous
};

// The mean of the guide over the pixels of each small one.
void guided_guide(const GuidedArgs& args, const Place& place);
// The fusion by logits slope * guide + offset, slopes and offsets enlarged.
void guided_fuse(const GuidedArgs& args, const Place& place);

}  // namespace fastmef
