// Arguments of the one-pass loss and its kernels.
#pragma once

#include "cuda/runtime/launch.h"
#include "cuda/runtime/layout.h"

namespace fastmef {

constexpr int kWindow = 11;  // the only window that these kernels support
constexpr int kHalo = kWindow - 1;
constexpr int kMostLevels = 6;  // an image, and five halvings of it

// One level: its arrays, and its division among blocks.
struct Level {
  Stack source;         // F (B, 1, 1, H, W) or logits (B, K, 1, H, W)
  Stack exposures;      // (B, K, 1, H, W), grey
  Stack gradient;       // w.r.t. the source, optional
  int height, width;    // pixels
  int columns, strips;  // pixel columns of a strip, and the number of strips
  int rows, chunks;     // pixel rows of a chunk, and the number of chunks
  int first, blocks;    // the first block of this level, and their number; coarse levels come first
  float gradient_scale;  // the factor of the gradient w.r.t. F
  float weight;          // the factor of the sum of the level's SSIM in the value
};

struct LossArgs {
  int64_t batch;
  int count;  // exposures: 2 or 3
  bool from_logits;
  bool in_pairs;  // whether the finest level can be read in aligned pairs of float32
  int levels;
  Level level[kMostLevels];  // finest first; only the finest has logits
  double* partials;          // one sum for each block
  unsigned* counters;        // finished blocks of coarser levels, and of all levels
  float* value;
  float taps[kWindow];
  int attributes;
  bool luminance;
  float c1, c2, floor, eps;
  int threads, blocks;  // of the launch
};

// The arguments of a call of fusion_loss().
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
  float gradient_scale;  // the factor of the gradient
  int levels;
  float scales[kMostLevels];  // the weights of the levels in the loss; their sum is 1
};

// Returns the number of float64 that a call needs for coarser levels, their gradients and sums.
int64_t loss_workspace(int64_t batch, int count, int64_t height, int64_t width, int levels);

// Computes 1 - sum_s scale_s mean_p sum_k gamma_k SSIM(F, I_k) and its gradient w.r.t. the source.
void fusion_loss(const LossCall& call, const DeviceAndStream& on);

// Multiplies `size` dense numbers by *grad_output / divisor in place.
void scale_gradient(void* gradient, DType dtype, int64_t size, const float* grad_output,
                    double divisor, const DeviceAndStream& on);

// Launches the kernel that computes the coarser levels and sets the counters to 0.
void prepare_levels(const LossArgs& args, const DeviceAndStream& on);

// Returns whether all arrays are float32 and the options are the default ones. There are
// specialised kernels for this case.
bool is_common(const LossArgs& args);

}  // namespace fastmef
