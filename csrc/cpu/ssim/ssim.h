// Arguments of the SSIM sweep, shared by the binding and the instruction-set variants.
#pragma once

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"
#include "cpu/window/axis.h"

namespace fastmef {

struct SsimArgs {
  int64_t batch;
  Axis y, x;
  const double* taps_y;
  const double* taps_x;
  double c1, c2;
  bool luminance;
  Stack a, b;
  Stack values;       // optional: the map
  Stack grad_output;  // optional gradient of the map; without it every window counts `weight`
  double weight;
  Stack grad_a, grad_b;  // optional gradients
  int threads;
};

FASTMEF_KERNEL(ssim, double(const SsimArgs&, bool in_double))

}  // namespace fastmef
