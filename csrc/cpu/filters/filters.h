// Arguments of the sweep behind local_variance, sobel_gradient and gamma_weights, shared by the
// binding and the instruction-set variants.
#pragma once

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"
#include "cpu/window/axis.h"

namespace fastmef {

struct FilterArgs {
  int64_t batch;
  int count;  // exposures
  Axis y, x;
  const double* taps_y;
  const double* taps_x;
  int attributes;  // bits of common/attributes.h; padding allows the variance only
  bool normalise;  // whether to divide by the sum over the exposures + eps
  double floor, eps;
  Stack images;
  Stack values;                    // written by the forward pass
  Stack grad_output, grad_images;  // read and written by the backward pass
  int threads;
};

FASTMEF_KERNEL(filters, void(const FilterArgs&, bool in_double))

}  // namespace fastmef
