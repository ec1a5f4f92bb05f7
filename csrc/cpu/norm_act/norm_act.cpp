// Batch normalisation and ReLU of dense channels-last images, forward and backward.
//
//   z = (x - mean) * scale + bias,   scale = weight / sqrt(variance + eps),   y = max(z, 0)
//   g = dL/dy where z > 0,   dL/dx = scale (g - s0 / n - (x - mean) s1 / (n (variance + eps)))
//
// with s0 and s1 the sums of g and of g (x - mean) over the n values of a channel. Pixels are
// divided into chunks that depend on their number only, so that results are bit-identical for any
// number of threads.
//
// This file is compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the
// binding.

#include "common/stack.h"
#include "cpu/runtime/instruction_sets.h"

namespace fastmef {

// Images are (pixels, channels) and have one storage type; vectors have one value for each channel.
struct NormActArgs {
  int64_t pixels, channels;
  Stack x;
  Stack mean, variance;
  Stack weight, bias;  // optional
  double eps;
  Stack grad_y;
  Stack sums, count;  // optional: s0 and s1, and n; without them the statistics are constants
  Stack out;  // of each step: (3, channels) mean, variance, n; y; (2, channels) s0, s1; dL/dx
  int threads;
};

enum NormActStep { kStatistics, kForward, kSums, kGradient };

FASTMEF_KERNEL(norm_act, void(const NormActArgs&, NormActStep step))

}  // namespace fastmef

#ifdef FASTMEF_ISA

#include <math.h>

#include "cpu/runtime/array.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

// The number of values of a chunk, which stay in the second-level cache between two passes and are
// few enough to be summed in float.
constexpr int64_t kChunk = 16384;
// The factors of the channels are repeated until there are at least this many, so that loops are
// long enough to vectorise.
constexpr int64_t kPeriod = 64;

// Returns a value of a vector, or `absent` if the vector is absent.
double value_of(const Stack& vector, int64_t channel, double absent) {
  double value = absent;
  if (vector.data) read(vector, channel * vector.column, 1, 1, &value);
  return value;
}

class NormAct {
 public:
  explicit NormAct(const NormActArgs& args)
      : args_(args),
        channels_(args.channels),
        period_((kPeriod + channels_ - 1) / channels_ * channels_),
        pixels_of_chunk_(most(1, kChunk / channels_)),
        chunks_((args.pixels + pixels_of_chunk_ - 1) / pixels_of_chunk_),
        factors_(kFactors * period_) {}

  void run(NormActStep step) {
    if (step != kStatistics) prepare(step);
    const Array<double> parts(step == kStatistics || step == kSums ? 2 * chunks_ * channels_ : 0);
    parts_ = parts.data;
    step_ = step;
    const Task task = [](void* context, int64_t chunk, void* scratch) {
      NormAct& self = *static_cast<NormAct*>(context);
      float* sums = static_cast<float*>(scratch);
      switch (self.args_.x.dtype) {
        case kFloat16: return self.run_chunk<Half>(chunk, sums);
        case kBFloat16: return self.run_chunk<BFloat>(chunk, sums);
        default: return self.run_chunk<float>(chunk, sums);
      }
    };
    parallel_for(chunks_, args_.threads, 2 * period_ * sizeof(float), task, this);
    if (step == kStatistics) merge_moments();
    if (step == kSums) merge_sums();
  }

 private:
  enum { kMean, kScale, kBias, kConstant, kSlope, kFactors };

  // The gradient w.r.t. z, and x - mean.
  struct Gradient {
    float z, distance;
  };

  template <class S>
  FASTMEF_HD Gradient gradient_of(S x, S grad_y, float mean, float scale, float bias) {
    const float distance = to_number<float>(x) - mean;
    return {distance * scale + bias <= 0.0f ? 0.0f : to_number<float>(grad_y), distance};
  }

  // Returns the sum over the repetitions of a channel in an array of a period.
  double sum_of(const float* sums, int64_t channel) const {
    double sum = 0.0;
    for (int64_t i = channel; i < period_; i += channels_) sum += sums[i];
    return sum;
  }

  // Returns the two values of a chunk and channel.
  double* part(int64_t chunk, int64_t channel) const {
    return parts_ + 2 * (chunk * channels_ + channel);
  }

  float* factor(int which) const { return factors_.data + which * period_; }

  // Fills the factors of each channel.
  void prepare(NormActStep step) {
    for (int64_t i = 0; i < period_; ++i) {
      const int64_t c = i % channels_;
      const double variance = value_of(args_.variance, c, 1) + args_.eps;
      factor(kMean)[i] = static_cast<float>(value_of(args_.mean, c, 0));
      factor(kScale)[i] = static_cast<float>(value_of(args_.weight, c, 1) / sqrt(variance));
      factor(kBias)[i] = static_cast<float>(value_of(args_.bias, c, 0));
      if (step != kGradient || !args_.count.data) continue;
      const double count = value_of(args_.count, c, 1);
      factor(kConstant)[i] = static_cast<float>(value_of(args_.sums, c, 0) / count);
      factor(kSlope)[i] =
          static_cast<float>(value_of(args_.sums, channels_ + c, 0) / (count * variance));
    }
  }

  template <class S>
  void run_chunk(int64_t chunk, float* sums) {
    const int64_t begin = chunk * pixels_of_chunk_ * channels_;
    const int64_t end = least(begin + pixels_of_chunk_ * channels_, args_.pixels * channels_);
    const S* x = static_cast<const S*>(args_.x.data) + begin;
    const S* grad_y = static_cast<const S*>(args_.grad_y.data) + (args_.grad_y.data ? begin : 0);
    const bool of_pixels = step_ == kForward || step_ == kGradient;
    S* out = static_cast<S*>(args_.out.data) + (of_pixels ? begin : 0);
    switch (step_) {
      case kStatistics: return add_moments(x, end - begin, sums, chunk);
      case kForward: return forward(x, end - begin, out);
      case kSums: return add_gradients(x, grad_y, end - begin, sums, chunk);
      case kGradient: return gradient(x, grad_y, end - begin, out);
    }
  }

  // Computes the mean of the chunk and the sum of squared deviations from it, which lose no
  // precision if all values have a common offset.
  template <class S>
  void add_moments(const S* FASTMEF_RESTRICT x, int64_t n, float* FASTMEF_RESTRICT sums,
                   int64_t chunk) {
    float* FASTMEF_RESTRICT squares = sums + period_;
    const Array<float> means(period_);
    float* FASTMEF_RESTRICT mean = means.data;
    for (int64_t i = 0; i < period_; ++i) sums[i] = 0.0f;
    for (int64_t at = 0; at < n; at += period_) {
      const int64_t m = least(period_, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) sums[i] += to_number<float>(x[at + i]);
    }
    const double pixels = static_cast<double>(n / channels_);
    for (int64_t i = 0; i < period_; ++i) {
      mean[i] = static_cast<float>(sum_of(sums, i % channels_) / pixels);
    }
    for (int64_t i = 0; i < period_; ++i) sums[i] = squares[i] = 0.0f;
    for (int64_t at = 0; at < n; at += period_) {
      const int64_t m = least(period_, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const float d = to_number<float>(x[at + i]) - mean[i];
        sums[i] += d;
        squares[i] += d * d;
      }
    }
    for (int64_t c = 0; c < channels_; ++c) {
      const double sum = sum_of(sums, c);  // not 0, because the mean is rounded
      part(chunk, c)[0] = mean[c] + sum / pixels;
      part(chunk, c)[1] = sum_of(squares, c) - sum * sum / pixels;
    }
  }

  // Merges means and sums of squared deviations of the chunks, in their order.
  void merge_moments() {
    for (int64_t c = 0; c < channels_; ++c) {
      double count = 0.0, mean = 0.0, squares = 0.0;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const double* moments = part(chunk, c);
        const double more =
            static_cast<double>(least(pixels_of_chunk_, args_.pixels - chunk * pixels_of_chunk_));
        const double distance = moments[0] - mean;
        squares += moments[1] + distance * distance * count * more / (count + more);
        mean += distance * more / (count + more);
        count += more;
      }
      float* out = static_cast<float*>(args_.out.data) + c;
      out[0] = static_cast<float>(mean);
      out[channels_] = static_cast<float>(squares / count);
      out[2 * channels_] = static_cast<float>(count);
    }
  }

  template <class S>
  void forward(const S* FASTMEF_RESTRICT x, int64_t n, S* FASTMEF_RESTRICT y) {
    const float* FASTMEF_RESTRICT mean = factor(kMean);
    const float* FASTMEF_RESTRICT scale = factor(kScale);
    const float* FASTMEF_RESTRICT bias = factor(kBias);
    for (int64_t at = 0; at < n; at += period_) {
      const int64_t m = least(period_, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const float z = (to_number<float>(x[at + i]) - mean[i]) * scale[i] + bias[i];
        from_number(z < 0.0f ? 0.0f : z, y[at + i]);  // keeps NaN
      }
    }
  }

  template <class S>
  void add_gradients(const S* FASTMEF_RESTRICT x, const S* FASTMEF_RESTRICT grad_y, int64_t n,
                     float* FASTMEF_RESTRICT sums, int64_t chunk) {
    const float* FASTMEF_RESTRICT mean = factor(kMean);
    const float* FASTMEF_RESTRICT scale = factor(kScale);
    const float* FASTMEF_RESTRICT bias = factor(kBias);
    float* FASTMEF_RESTRICT products = sums + period_;
    for (int64_t i = 0; i < period_; ++i) sums[i] = products[i] = 0.0f;
    for (int64_t at = 0; at < n; at += period_) {
      const int64_t m = least(period_, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const Gradient g = gradient_of(x[at + i], grad_y[at + i], mean[i], scale[i], bias[i]);
        sums[i] += g.z;
        products[i] += g.z * g.distance;
      }
    }
    for (int64_t c = 0; c < channels_; ++c) {
      part(chunk, c)[0] = sum_of(sums, c);
      part(chunk, c)[1] = sum_of(products, c);
    }
  }

  // Adds up the sums of the chunks, in their order.
  void merge_sums() {
    for (int64_t c = 0; c < channels_; ++c) {
      double sum = 0.0, product = 0.0;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        sum += part(chunk, c)[0];
        product += part(chunk, c)[1];
      }
      float* out = static_cast<float*>(args_.out.data) + c;
      out[0] = static_cast<float>(sum);
      out[channels_] = static_cast<float>(product);
    }
  }

  template <class S>
  void gradient(const S* FASTMEF_RESTRICT x, const S* FASTMEF_RESTRICT grad_y, int64_t n,
                S* FASTMEF_RESTRICT grad_x) {
    const float* FASTMEF_RESTRICT mean = factor(kMean);
    const float* FASTMEF_RESTRICT scale = factor(kScale);
    const float* FASTMEF_RESTRICT bias = factor(kBias);
    const float* FASTMEF_RESTRICT constant = factor(kConstant);
    const float* FASTMEF_RESTRICT slope = factor(kSlope);
    for (int64_t at = 0; at < n; at += period_) {
      const int64_t m = least(period_, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const Gradient g = gradient_of(x[at + i], grad_y[at + i], mean[i], scale[i], bias[i]);
        from_number(scale[i] * (g.z - constant[i] - g.distance * slope[i]), grad_x[at + i]);
      }
    }
  }

  const NormActArgs& args_;
  const int64_t channels_, period_, pixels_of_chunk_, chunks_;
  const Array<float> factors_;
  double* parts_ = nullptr;  // two values for each chunk and channel
  NormActStep step_ = kForward;
};

}  // namespace

namespace FASTMEF_ISA {

void norm_act(const NormActArgs& args, NormActStep step) { NormAct(args).run(step); }

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include "common/binding.h"
#include "cpu/runtime/large_pages.h"

namespace py = pybind11;

namespace fastmef {
namespace {

void norm_act(int step, const std::array<int64_t, 2>& shape, const Stack& x, const Stack& mean,
              const Stack& variance, const Stack& weight, const Stack& bias, double eps,
              const Stack& grad_y, const Stack& sums, const Stack& count, const Stack& out,
              int threads) {
  const NormActArgs args{shape[0], shape[1], x,    mean,  variance, weight, bias,
                         eps,      grad_y,   sums, count, out,      threads};
  const py::gil_scoped_release release;
  if (step == kForward || step == kGradient) prefer_large_pages(out, shape[0] * shape[1]);
  norm_act_kernel(args, static_cast<NormActStep>(step));
}

}  // namespace

FASTMEF_BINDING(m) { m.def("norm_act", &norm_act); }

}  // namespace fastmef

#endif
