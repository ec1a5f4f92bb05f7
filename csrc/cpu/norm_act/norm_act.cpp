// The steps of a normalisation; norm_act.h has the formulas. Pixels are divided into chunks that
// depend on their number only, so that results are bit-identical for any number of threads.
//
// This file is compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the
// binding.

#include "cpu/norm_act/norm_act.h"

#ifdef FASTMEF_ISA

#include "cpu/norm_act/channels.h"
#include "cpu/norm_act/lines.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

// The number of values of a chunk, which stay in the second-level cache between two passes and are
// few enough to be summed in float.
constexpr int64_t kChunk = 16384;

class NormAct {
 public:
  NormAct(const NormActArgs& args, NormActStep step)
      : args_(args),
        step_(step),
        channels_(args),
        in_lines_(step != kStatistics && Lines<float>::is_used(args)),
        pixels_(args.batch * args.height * args.width),
        pixels_of_chunk_(most(1, kChunk / args.channels)),
        lines_of_chunk_(most(1, pixels_of_chunk_ / args.width / (args.then == kPool ? 2 : 1))),
        chunks_(in_lines_ ? divide_up(Lines<float>::count(args), lines_of_chunk_)
                          : divide_up(pixels_, pixels_of_chunk_)),
        parts_(step == kStatistics || step == kSums ? 2 * chunks_ * args.channels : 0) {}

  void run() {
    const Task task = [](void* context, int64_t chunk, void* scratch) {
      NormAct& self = *static_cast<NormAct*>(context);
      switch (self.args_.x.dtype) {
        case kFloat16: return self.run_chunk<Half>(chunk, scratch);
        case kBFloat16: return self.run_chunk<BFloat>(chunk, scratch);
        default: return self.run_chunk<float>(chunk, scratch);
      }
    };
    Arena counting(nullptr);
    carve<float>(counting);
    parallel_for(chunks_, args_.threads, counting.used(), task, this);
    if (step_ == kStatistics) merge_moments();
    if (step_ == kSums) merge_sums();
  }

 private:
  static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

  // Two arrays of a period, and the number of values that were added to each.
  struct Sums {
    float* data;
    int64_t values;
  };

  template <class S>
  struct Scratch {
    Sums sums;
    Lines<S> lines;
  };

  template <class S>
  Scratch<S> carve(Arena& arena) const {
    float* sums = arena.take<float>(2 * channels_.period);
    return {{sums, 0}, {args_, channels_, arena}};
  }

  // Returns the two values of a chunk and channel.
  double* part(int64_t chunk, int64_t channel) const {
    return parts_.data + 2 * (chunk * channels_.count + channel);
  }

  template <class S>
  void run_chunk(int64_t chunk, void* memory) {
    Arena arena(memory);
    Scratch<S> scratch = carve<S>(arena);
    if (step_ == kStatistics) return add_moments<S>(chunk, scratch.sums.data);
    clear(scratch.sums);
    const int64_t begin = chunk * (in_lines_ ? lines_of_chunk_ : pixels_of_chunk_);
    if (!in_lines_) {
      run_pixels<S>(begin, least(begin + pixels_of_chunk_, pixels_), chunk, scratch.sums);
    } else {
      const int64_t end = least(begin + lines_of_chunk_, Lines<S>::count(args_));
      if (step_ == kForward) return scratch.lines.forward(begin, end);
      for (int64_t line = begin; line < end; ++line) {
        scratch.lines.backward(line, [&](int64_t at, int64_t n, auto grad_y) {
          take<S>(at, n, grad_y, chunk, scratch.sums);
        });
      }
    }
    if (step_ == kSums) flush(chunk, scratch.sums);
  }

  template <class S>
  void run_pixels(int64_t begin, int64_t end, int64_t chunk, Sums& sums) {
    const int64_t at = begin * channels_.count, n = (end - begin) * channels_.count;
    if (step_ == kForward) {
      channels_.forward(of<S>(args_.x) + at, n, of<S>(args_.out) + at);
    } else {
      take<S>(at, n, static_cast<const S*>(of<S>(args_.grad_y) + at), chunk, sums);
    }
  }

  template <class S>
  static S* of(const Stack& images) {
    return static_cast<S*>(images.data);
  }

  // Adds n values of dL/dy at an offset into x to the sums, or writes dL/dx for them.
  template <class S, class G>
  void take(int64_t at, int64_t n, const G* grad_y, int64_t chunk, Sums& sums) {
    const S* x = of<S>(args_.x) + at;
    if (step_ == kGradient) return channels_.gradient(x, grad_y, n, of<S>(args_.out) + at);
    const int64_t most_values = pixels_of_chunk_ * channels_.count;
    for (int64_t begin = 0; begin < n; begin += most_values) {
      const int64_t m = least(most_values, n - begin);
      if (sums.values + m > most_values) flush(chunk, sums);
      channels_.add_gradients(x + begin, grad_y + begin, m, sums.data);
      sums.values += m;
    }
  }

  void clear(Sums& sums) const {
    for (int64_t i = 0; i < 2 * channels_.period; ++i) sums.data[i] = 0.0f;
    sums.values = 0;
  }

  // Adds the sums to those of the chunk, and clears them.
  void flush(int64_t chunk, Sums& sums) const {
    for (int64_t c = 0; c < channels_.count; ++c) {
      part(chunk, c)[0] += channels_.sum_of(sums.data, c);
      part(chunk, c)[1] += channels_.sum_of(sums.data + channels_.period, c);
    }
    clear(sums);
  }

  // Computes the mean of the chunk and the sum of squared deviations from it, which lose no
  // precision if all values have a common offset.
  template <class S>
  void add_moments(int64_t chunk, float* FASTMEF_RESTRICT sums) {
    const int64_t first = chunk * pixels_of_chunk_, period = channels_.period;
    const int64_t pixels = least(pixels_of_chunk_, pixels_ - first), n = pixels * channels_.count;
    const S* FASTMEF_RESTRICT x = of<S>(args_.x) + first * channels_.count;
    float* FASTMEF_RESTRICT squares = sums + period;
    const Array<float> means(period);
    float* FASTMEF_RESTRICT mean = means.data;
    for (int64_t i = 0; i < period; ++i) sums[i] = 0.0f;
    for (int64_t at = 0; at < n; at += period) {
      const int64_t m = least(period, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) sums[i] += to_number<float>(x[at + i]);
    }
    const double count = static_cast<double>(pixels);
    for (int64_t i = 0; i < period; ++i) {
      mean[i] = static_cast<float>(channels_.sum_of(sums, i % channels_.count) / count);
    }
    for (int64_t i = 0; i < period; ++i) sums[i] = squares[i] = 0.0f;
    for (int64_t at = 0; at < n; at += period) {
      const int64_t m = least(period, n - at);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < m; ++i) {
        const float d = to_number<float>(x[at + i]) - mean[i];
        sums[i] += d;
        squares[i] += d * d;
      }
    }
    for (int64_t c = 0; c < channels_.count; ++c) {
      const double sum = channels_.sum_of(sums, c);  // not 0, because the mean is rounded
      part(chunk, c)[0] = mean[c] + sum / count;
      part(chunk, c)[1] = channels_.sum_of(squares, c) - sum * sum / count;
    }
  }

  // Merges means and sums of squared deviations of the chunks, in their order.
  void merge_moments() {
    for (int64_t c = 0; c < channels_.count; ++c) {
      double count = 0.0, mean = 0.0, squares = 0.0;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const double* moments = part(chunk, c);
        const double more =
            static_cast<double>(least(pixels_of_chunk_, pixels_ - chunk * pixels_of_chunk_));
        const double distance = moments[0] - mean;
        squares += moments[1] + distance * distance * count * more / (count + more);
        mean += distance * more / (count + more);
        count += more;
      }
      float* out = of<float>(args_.out) + c;
      out[0] = static_cast<float>(mean);
      out[channels_.count] = static_cast<float>(squares / count);
      out[2 * channels_.count] = static_cast<float>(count);
    }
  }

  // Adds up the sums of the chunks, in their order.
  void merge_sums() {
    for (int64_t c = 0; c < channels_.count; ++c) {
      double sum = 0.0, product = 0.0;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        sum += part(chunk, c)[0];
        product += part(chunk, c)[1];
      }
      float* out = of<float>(args_.out) + c;
      out[0] = static_cast<float>(sum);
      out[channels_.count] = static_cast<float>(product);
    }
  }

  const NormActArgs& args_;
  const NormActStep step_;
  const Channels channels_;
  const bool in_lines_;
  const int64_t pixels_, pixels_of_chunk_, lines_of_chunk_, chunks_;
  const Array<double> parts_;  // two values for each chunk and channel
};

}  // namespace

namespace FASTMEF_ISA {

void norm_act(const NormActArgs& args, NormActStep step) { NormAct(args, step).run(); }

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include "common/binding.h"
#include "cpu/runtime/large_pages.h"

namespace py = pybind11;

namespace fastmef {
namespace {

void norm_act(int step, const std::array<int64_t, 4>& shape, int then, int margin, const Stack& x,
              const std::array<Stack, 4>& affine, double eps, const Stack& grad_y,
              const Stack& grad_after, const Stack& sums, const Stack& count, const Stack& out,
              const Stack& after, int threads) {
  const auto [batch, height, width, channels] = shape;
  const auto& [mean, variance, weight, bias] = affine;
  const NormActArgs args{batch,  height, width,  channels,   static_cast<NormActThen>(then),
                         margin, x,      mean,   variance,   weight,
                         bias,   eps,    grad_y, grad_after, sums,
                         count,  out,    after,  threads};
  const py::gil_scoped_release release;
  if (step == kForward) {
    const int64_t rows = size_after(args.then, height) + 2 * args.margin;
    const int64_t columns = size_after(args.then, width) + 2 * args.margin;
    prefer_large_pages(after, batch * rows * columns * channels);
  }
  if (step == kForward || step == kGradient) {
    prefer_large_pages(out, batch * height * width * channels);
  }
  norm_act_kernel(args, static_cast<NormActStep>(step));
}

}  // namespace

FASTMEF_BINDING(m) { m.def("norm_act", &norm_act); }

}  // namespace fastmef

#endif
