// The factors of the channels of a normalisation, and the loops over pixels that use them.
#pragma once

#include <math.h>

#include "cpu/norm_act/norm_act.h"
#include "cpu/runtime/array.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// The factors of the channels are repeated until there are at least this many, so that loops are
// long enough to vectorise.
constexpr int64_t kPeriod = 64;

// The functions take runs of n values that begin with the first channel of a pixel.
class Channels {
 public:
  explicit Channels(const NormActArgs& args)
      : count(args.channels),
        period((kPeriod + args.channels - 1) / args.channels * args.channels),
        factors_(kFactors * period) {
    for (int64_t i = 0; i < period; ++i) {
      const int64_t c = i % count;
      const double variance = value_of(args.variance, c, 1) + args.eps;
      factor(kMean)[i] = static_cast<float>(value_of(args.mean, c, 0));
      factor(kScale)[i] = static_cast<float>(value_of(args.weight, c, 1) / sqrt(variance));
      factor(kBias)[i] = static_cast<float>(value_of(args.bias, c, 0));
      if (!args.sums.data || !args.count.data) continue;
      const double pixels = value_of(args.count, c, 1);
      factor(kConstant)[i] = static_cast<float>(value_of(args.sums, c, 0) / pixels);
      factor(kSlope)[i] =
          static_cast<float>(value_of(args.sums, count + c, 0) / (pixels * variance));
    }
  }

  // Returns the sum over the repetitions of a channel in an array of a period.
  double sum_of(const float* sums, int64_t channel) const {
    double sum = 0.0;
    for (int64_t i = channel; i < period; i += count) sum += sums[i];
    return sum;
  }

  // Writes y; T is a storage type or float.
  template <class S, class T>
  void forward(const S* FASTMEF_RESTRICT x, int64_t n, T* FASTMEF_RESTRICT y) const {
    const float* FASTMEF_RESTRICT mean = factor(kMean);
    const float* FASTMEF_RESTRICT scale = factor(kScale);
    const float* FASTMEF_RESTRICT bias = factor(kBias);
    for (int64_t at = 0; at < n; at += period) {
      const int64_t m = least(period, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const float z = (to_number<float>(x[at + i]) - mean[i]) * scale[i] + bias[i];
        from_number(z < 0.0f ? 0.0f : z, y[at + i]);  // keeps NaN
      }
    }
  }

  // Adds g and g (x - mean) to two arrays of a period.
  template <class S, class G>
  void add_gradients(const S* FASTMEF_RESTRICT x, const G* FASTMEF_RESTRICT grad_y, int64_t n,
                     float* FASTMEF_RESTRICT sums) const {
    const float* FASTMEF_RESTRICT mean = factor(kMean);
    const float* FASTMEF_RESTRICT scale = factor(kScale);
    const float* FASTMEF_RESTRICT bias = factor(kBias);
    float* FASTMEF_RESTRICT products = sums + period;
    for (int64_t at = 0; at < n; at += period) {
      const int64_t m = least(period, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const Gradient g = gradient_of(x[at + i], grad_y[at + i], mean[i], scale[i], bias[i]);
        sums[i] += g.z;
        products[i] += g.z * g.distance;
      }
    }
  }

  // Writes dL/dx.
  template <class S, class G>
  void gradient(const S* FASTMEF_RESTRICT x, const G* FASTMEF_RESTRICT grad_y, int64_t n,
                S* FASTMEF_RESTRICT grad_x) const {
    const float* FASTMEF_RESTRICT mean = factor(kMean);
    const float* FASTMEF_RESTRICT scale = factor(kScale);
    const float* FASTMEF_RESTRICT bias = factor(kBias);
    const float* FASTMEF_RESTRICT constant = factor(kConstant);
    const float* FASTMEF_RESTRICT slope = factor(kSlope);
    for (int64_t at = 0; at < n; at += period) {
      const int64_t m = least(period, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const Gradient g = gradient_of(x[at + i], grad_y[at + i], mean[i], scale[i], bias[i]);
        from_number(scale[i] * (g.z - constant[i] - g.distance * slope[i]), grad_x[at + i]);
      }
    }
  }

  const int64_t count, period;

 private:
  enum { kMean, kScale, kBias, kConstant, kSlope, kFactors };

  // The gradient w.r.t. z, and x - mean.
  struct Gradient {
    float z, distance;
  };

  template <class S, class G>
  FASTMEF_HD Gradient gradient_of(S x, G grad_y, float mean, float scale, float bias) {
    const float distance = to_number<float>(x) - mean;
    return {distance * scale + bias <= 0.0f ? 0.0f : to_number<float>(grad_y), distance};
  }

  // Returns a value of a vector, or `absent` if the vector is absent.
  static double value_of(const Stack& vector, int64_t channel, double absent) {
    double value = absent;
    if (vector.data) read(vector, channel * vector.column, 1, 1, &value);
    return value;
  }

  float* factor(int which) const { return factors_.data + which * period; }

  const Array<float> factors_;
};

}  // namespace
}  // namespace fastmef
