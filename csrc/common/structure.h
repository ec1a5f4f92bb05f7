// The weights of the exposures' structures in one window of MEF-SSIM ma2015.
#pragma once

#include "common/math.h"
#include "common/power.h"

namespace fastmef {

// Returns 2^-52, MATLAB's eps.
template <class T>
FASTMEF_HD T matlab_eps() {
  return T(2.220446049250313e-16);
}

// Returns 0 for a variance within rounding of 0, where `second_moment` is the magnitude of the
// subtracted numbers. NaN becomes 0 too; the sum over all exposures is still NaN.
template <class T>
FASTMEF_HD T beyond_rounding(T variance, T second_moment, T noise) {
  return variance > noise * second_moment ? variance : T(0);
}

// Returns min(tan(pi/2 R), 10), where R is the norm of the sum divided by the sum of norms. The cap
// is reached at R = 0.937.
template <class T>
FASTMEF_HD T exponent_of(T norm_of_sum, T sum_of_norms) {
  const T agreement = (norm_of_sum + matlab_eps<T>()) / (sum_of_norms + matlab_eps<T>());
  const T below_one = T(0.99) < agreement ? T(0.99) : agreement;
  const T tangent = tangent_of_quarter_turns(below_one);
  return T(10) < tangent ? T(10) : tangent;
}

}  // namespace fastmef
