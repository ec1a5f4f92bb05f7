// The entry points that exist once for every instruction set.
#pragma once

#include "cpu/filters/filters.h"
#include "cpu/fusion/softmax_fuse.h"
#include "cpu/loss/loss.h"
#include "cpu/mef_ssim/mef_ssim.h"
#include "cpu/multiscale/multiscale.h"
#include "cpu/ssim/ssim.h"

namespace fastmef {

struct Variant {
  const char* name;
  double (*weighted_ssim_loss)(const LossArgs&, bool in_double);
  void (*softmax_fuse)(const FuseArgs&, bool backward, bool in_double);
  void (*pyramid_reduce)(const ReduceArgs&, bool in_double);
  void (*blend_band)(const BandArgs&, bool in_double);
  void (*blend_band_backward)(const BandBackwardArgs&, bool in_double);
  void (*filters)(const FilterArgs&, bool in_double);
  double (*ssim)(const SsimArgs&, bool in_double);
  void (*ma2015_level)(const MefShape&, const void* images, const Ma2015Maps&, bool in_double);
  void (*ma2015_quality)(const MefShape&, const Ma2015Maps&, const MefScore&, bool in_double);
  void (*ma2015_once)(const MefShape&, void* exposures, double unit, const MefScore&,
                      bool in_double);
  void (*halve)(const HalveArgs&, bool in_double);
  void (*mefnet_sources)(const MefShape&, const MefnetMaps&, bool in_double);
  void (*mefnet_factors)(const MefShape&, const MefnetMaps&, const MefScore&, bool in_double);
};

namespace baseline {
extern const Variant variant;
}
namespace avx2 {
extern const Variant variant;
}
namespace avx512 {
extern const Variant variant;
}

}  // namespace fastmef
