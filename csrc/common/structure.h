// How MEF-SSIM ma2015 weighs the structures of the exposures at one window.
#pragma once

#include "common/math.h"
#include "common/power.h"

namespace fastmef {

// 2^-52, MATLAB's eps.
template <class T>
FASTMEF_HD T matlab_eps() {
  return T(2.220446049250313e-16);
}

// Returns 0 for a variance within rounding of 0; `second_moment` is the size of what cancelled. NaN
// becomes 0 too, and shows in the sum over all exposures.
template <class T>
FASTMEF_HD T beyond_rounding(T variance, T second_moment, T noise) {
  return variance > noise * second_moment ? variance : T(0);
}

// min(tan(pi/2 R), 10), R the norm of the sum over the sum of norms. The cap is reached at R =
// 0.937.
template <class T>
FASTMEF_HD T exponent_of(T norm_of_sum, T sum_of_norms) {
  const T agreement = (norm_of_sum + matlab_eps<T>()) / (sum_of_norms + matlab_eps<T>());
  const T below_one = T(0.99) < agreement ? T(0.99) : agreement;
  const T tangent = tangent_of_quarter_turns(below_one);
  return T(10) < tangent ? T(10) : tangent;
}

}  // namespace fastmef
