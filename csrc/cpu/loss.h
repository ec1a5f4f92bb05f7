// Arguments of the loss sweep, shared by the binding and the instruction-set variants.
#pragma once

#include <stdint.h>

namespace fastmef {

// A strided (B, K, H, W) array; strides count elements. `data` is null for an absent argument.
struct View {
  const void* data;
  int64_t plane;  // stride of B
  int64_t layer;  // stride of K
  int64_t row;
  int64_t column;
};

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

struct LossArgs {
  int64_t batch;
  int64_t exposures_count;
  int level_count;
  const Level* levels;
  View fused;           // (B, H, W); absent when the fused image comes from logits
  View logits;          // (B, K, H, W)
  View exposures;       // (B, K, H, W)
  View weight;          // optional (B, H, W): importance of window centres, or of windows
  bool weight_is_mask;  // at centres, normalised by its sum; otherwise an upstream gradient
  int attributes;
  bool luminance;
  double c1, c2, floor, eps;
  void* gradient;  // optional, contiguous: (B, H, W) of fused, or (B, K, H, W) of logits
  void* map;       // optional, contiguous (B, H', W'): 1 - quality, first level only
  int threads;
};

}  // namespace fastmef
