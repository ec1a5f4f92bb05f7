// The importance of one exposure in a row of windows: the product A of its attributes at the
// windows' centres.
#pragma once

#include "common/attributes.h"
#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

// The inputs of the attributes of one exposure. Pixels are those of the rows above, at and below
// the centres of the windows, minus `shift`; index x is window x.
template <class T>
struct ImportanceInputs {
  const T *mean, *second_moment;  // only for the variance
  const T *above, *at, *below;
  T floor, shift;
};

// Rows of the attributes before they are multiplied, for a backward pass.
template <class T>
struct FactorRows {
  T *variance, *gx, *gy, *gradient, *well_exposedness;
};

// Fills `product`, and if Keep is true the rows of `keep` for the attributes that are wanted.
template <bool Keep, class T>
void importance(int attributes, int64_t n, const ImportanceInputs<T>& in, const FactorRows<T>& keep,
                T* FASTMEF_RESTRICT product) {
  const T* FASTMEF_RESTRICT r0 = in.above;
  const T* FASTMEF_RESTRICT r1 = in.at;
  const T* FASTMEF_RESTRICT r2 = in.below;
  if (attributes & kVariance) {
    const T* FASTMEF_RESTRICT mean = in.mean;
    const T* FASTMEF_RESTRICT second_moment = in.second_moment;
    T* FASTMEF_RESTRICT v = keep.variance;
    const T floor = in.floor;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      product[x] = local_variance(mean[x], second_moment[x], floor);
      if (Keep) v[x] = product[x];
    }
  } else {
    for (int64_t x = 0; x < n; ++x) product[x] = 1;
  }
  if (attributes & kGradient) {
    T* FASTMEF_RESTRICT gx = keep.gx;
    T* FASTMEF_RESTRICT gy = keep.gy;
    T* FASTMEF_RESTRICT s = keep.gradient;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const Differences<T> d = sobel_differences(r0[x - 1], r0[x], r0[x + 1], r1[x - 1], r1[x + 1],
                                                 r2[x - 1], r2[x], r2[x + 1]);
      const T magnitude = square_root(d.x * d.x + d.y * d.y);
      product[x] *= magnitude;
      if (Keep) {
        gx[x] = d.x;
        gy[x] = d.y;
        s[x] = magnitude;
      }
    }
  }
  if (attributes & kWellExposedness) {
    T* FASTMEF_RESTRICT e = keep.well_exposedness;
    const T shift = in.shift;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T exposedness = well_exposedness(r1[x] + shift);
      product[x] *= exposedness;
      if (Keep) e[x] = exposedness;
    }
  }
}

}  // namespace
}  // namespace fastmef
