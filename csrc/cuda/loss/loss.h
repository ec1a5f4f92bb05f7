// Arguments of the one-pass loss, passed to the kernels as they are.
#pragma once

#include "cuda/runtime/launch.h"
#include "cuda/runtime/layout.h"

namespace fastmef {

constexpr int kWindow = 11;  // the only window these kernels know
constexpr int kHalo = kWindow - 1;
constexpr int kMostLevels = 6;  // an image, and five halvings of it

// One scale of the image: what is read and written there, and how blocks share it.
struct Level {
  Stack source;          // F (B, 1, 1, H, W) or logits (B, K, 1, H, W)
  Stack exposures;       // (B, K, 1, H, W), grey
  Stack gradient;        // of the source, optional
  int height, width;     // pixels
  int columns, strips;   // of pixels whose gradient a block makes, and such strips
  int rows, chunks;      // the same down the image
  int first, blocks;     // blocks of this level; coarser levels come before finer ones
  float gradient_scale;  // what the gradient w.r.t. F is multiplied by
  float weight;          // what the sum of the level's SSIM counts in the value
};

struct LossArgs {
  int64_t batch;
  int count;  // exposures: 2 or 3
  bool from_logits;
  int levels;
  Level level[kMostLevels];  // finest first; only the finest has logits
  double* partials;          // one sum a block
  unsigned* counters;        // blocks that are done: those of coarser levels, and all
  float* value;
  float taps[kWindow];
  int attributes;
  bool luminance;
  float c1, c2, floor, eps;
  int threads, blocks;  // of the launch
};

// What a caller asks for.
struct LossCall {
  int64_t batch, height, width;
  int count;
  bool from_logits;
  Stack source, exposures, gradient;
  void* workspace;  // loss_workspace() float64
  float* value;
  float taps[kWindow];
  int attributes;
  bool luminance;
  float c1, c2, floor, eps;
  float gradient_scale;  // what the gradient is multiplied by
  int levels;
  float scales[kMostLevels];  // shares of the levels in the loss; their sum is 1
};

// How many float64 a call needs for the coarser levels, their gradients and sums.
int64_t loss_workspace(int64_t batch, int count, int64_t height, int64_t width, int levels);

// 1 - sum_s scale_s mean_p sum_k gamma_k SSIM(F, I_k) and its gradient w.r.t. the source.
void fusion_loss(const LossCall& call, const DeviceAndStream& on);

// Multiplies `size` dense numbers by *grad_output / divisor in place.
void scale_gradient(void* gradient, DType dtype, int64_t size, const float* grad_output,
                    double divisor, const DeviceAndStream& on);

// Starts the kernel that makes the coarser levels and sets the counters to 0.
void prepare_levels(const LossArgs& args, const DeviceAndStream& on);

// Are all inputs float32 and the options the default ones? Then kernels are compiled for them.
bool is_common(const LossArgs& args);

}  // namespace fastmef
