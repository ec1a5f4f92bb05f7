// The entry points that exist once for every instruction set, and how one set is chosen.
#pragma once

#include "loss.h"

namespace fastmef {

// Everything compiled per instruction set.
struct Variant {
  const char* name;
  double (*loss_f32)(const LossArgs&);
  double (*loss_f64)(const LossArgs&);
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
