// Arguments of the MEF-SSIM sweeps, shared by the binding and the instruction-set variants. All
// arrays are contiguous and have the type that is used in computations.
#pragma once

#include <stdint.h>

#include "cpu/runtime/instruction_sets.h"
#include "cpu/window/axis.h"

namespace fastmef {

struct MefShape {
  int64_t batch, count;  // B, K
  Axis y, x;             // H with its windows H', W with W'
  const double* taps_y;
  const double* taps_x;
  int threads;
};

// Planes (N, H, W) are halved to (N, ceil(H/2), ceil(W/2)).
struct HalveArgs {
  int64_t planes, height, width;
  const void* images;
  void* out;
  int threads;
};

// Shapes: (B, K, H, W), (B, K, H', W'), (B, K, H', W'), (B, H', W').
struct Ma2015Maps {
  void* exposures;
  void* means;
  void* gains;
  void* variance;
};

// The maps of the variants that compare with the exposure of largest variance, which `reference`
// names. Shapes: (B, K, H, W), of color2018 (B, K, 3, H, W), then (B, H', W') four times.
struct ReferenceMaps {
  void* exposures;
  int64_t* reference;
  void* mean;
  void* variance;
  void* luminance;
};

// The scores (B) of fused images (B, H, W), of color2018 (B, 3, H, W), and their gradients, of the
// same shape, if they are wanted.
struct MefScore {
  void* fused;
  void* structure;  // of color2018 the product with the luminance factor
  void* luminance;  // only for mefnet
  void* grad_structure;
  void* grad_luminance;
  double c1, c2;
};

FASTMEF_KERNEL(ma2015_level,
               void(const MefShape&, const void* images, const Ma2015Maps&, bool in_double))
// If only the exposures are given, the maps are computed in the same sweep and not stored; `unit`
// is then the grey level, 0-255, of the value 1.0.
FASTMEF_KERNEL(ma2015_quality, void(const MefShape&, const Ma2015Maps&, double unit,
                                    const MefScore&, bool in_double))
FASTMEF_KERNEL(halve, void(const HalveArgs&, bool in_double))
FASTMEF_KERNEL(mefnet_sources, void(const MefShape&, const ReferenceMaps&, bool in_double))
FASTMEF_KERNEL(mefnet_factors,
               void(const MefShape&, const ReferenceMaps&, const MefScore&, bool in_double))
FASTMEF_KERNEL(color2018_sources, void(const MefShape&, const ReferenceMaps&, bool in_double))
FASTMEF_KERNEL(color2018_score,
               void(const MefShape&, const ReferenceMaps&, const MefScore&, bool in_double))

}  // namespace fastmef
