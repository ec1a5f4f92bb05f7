// The entry points that exist once for every instruction set.
#pragma once

#include "filters.h"
#include "fuse.h"
#include "loss.h"
#include "ssim.h"

namespace fastmef {

struct Variant {
  const char* name;
  double (*weighted_ssim_loss)(const LossArgs&, bool in_double);
  void (*softmax_fuse)(const FuseArgs&, bool backward, bool in_double);
  void (*filters)(const FilterArgs&, bool in_double);
  double (*ssim)(const SsimArgs&, bool in_double);
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
