// Arguments of the sweeps of multiscale_fuse, shared by the binding and the instruction-set
// variants. Rows [row_begin, row_end) of the result are computed; the result of a row does not
// depend on how the rows are divided among calls and threads. The address of row 0 may lie outside
// the allocated memory as long as the rows that are accessed lie inside.
#pragma once

#include <stdint.h>

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// Computes the next level: coarse = reduce(m fine) / reduce(m).
struct ReduceArgs {
  int64_t batch, count, channels, height, width;  // of the fine level
  int64_t row_begin, row_end;                     // of the coarse level
  Stack fine, coarse;                             // (B, K, C, ., .)
  Stack validity, coarse_validity;                // optional (B, K, 1, ., .)
  int threads;
};

// Blends one band: fused = expand(fused_coarse) + contrast sum_k gamma_k (fine_k -
// expand(coarse_k)). If `same_size` is true, the next level has the size of the band and is not
// expanded.
struct BandArgs {
  int64_t batch, count, channels, height, width;  // of the fine level
  int64_t row_begin, row_end;
  Stack fine, coarse;               // (B, K, C, ., .)
  const void* const* layers;        // optional: the address of each exposure of `fine`, for B = 1
  Stack fused_coarse, fused;        // (B, 1, C, ., .)
  Stack slope;                      // optional (B, 1, C, H, W): derivative of the compression
  Stack shares;                     // optional (B, K, 1, 1, 1)
  Stack validity, coarse_validity;  // optional (B, K, 1, ., .)
  int radius;
  double floor, contrast;
  bool same_size;
  bool finest;       // whether the result is compressed and stored like `fine`
  double low, high;  // the knee of the compression, 0 for none
  int threads;
};

// Computes the backward pass of expand, applied to grad * slope.
struct BandBackwardArgs {
  int64_t batch, channels, height, width;  // of the fine level
  Stack grad, slope;                       // (B, 1, C, H, W); slope is optional
  Stack grad_coarse;                       // (B, 1, C, h, w)
  int threads;
};

FASTMEF_KERNEL(pyramid_reduce, void(const ReduceArgs&, bool in_double))
FASTMEF_KERNEL(blend_band, void(const BandArgs&, bool in_double))
FASTMEF_KERNEL(blend_band_backward, void(const BandBackwardArgs&, bool in_double))

}  // namespace fastmef
