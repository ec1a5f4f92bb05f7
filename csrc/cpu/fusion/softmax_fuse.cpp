// F = sum_k W_k I_k with W = softmax_k(logits / T) over the valid exposures, for any storage type
// and layout, and its gradients:
//
//   dL/dlogits_k = W_k (t_k - sum_j W_j t_j) / T,   t_k = sum_c dL/dF_c I_kc + dL/dW_k
//   dL/dI_kc     = W_k dL/dF_c
//
// A task handles some rows. It converts, weights and converts back a block of columns while the
// block is in the first-level cache. This file is compiled once for every instruction set.

#include "cpu/fusion/softmax_fuse.h"

#include <string.h>

#include "cpu/fusion/weights.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

constexpr int64_t kTaskPixels = 16384;  // pixels of a task

// Computes sum += weight * image, or sum = weight * image if `first` is true.
template <class S, class T>
void add_as(const void* from, int64_t step, const T* FASTMEF_RESTRICT weight, bool first, int64_t n,
            T* FASTMEF_RESTRICT sum) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(from);
  if (first) {
    for (int64_t x = 0; x < n; ++x) sum[x] = 0;
  }
  if (step == 1) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) sum[x] += weight[x] * to_number<T>(in[x]);
  } else {
    for (int64_t x = 0; x < n; ++x) sum[x] += weight[x] * to_number<T>(in[x * step]);
  }
}

// Computes out = w0 * a + w1 * b for contiguous rows, the usual case, in one loop.
template <class S, class T>
void mix_as(const void* from_a, const void* from_b, const T* FASTMEF_RESTRICT w0,
            const T* FASTMEF_RESTRICT w1, int64_t n, void* to) {
  const S* FASTMEF_RESTRICT a = static_cast<const S*>(from_a);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(from_b);
  S* FASTMEF_RESTRICT out = static_cast<S*>(to);
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    from_number(w0[x] * to_number<T>(a[x]) + w1[x] * to_number<T>(b[x]), out[x]);
  }
}

template <class T>
void add(const Stack& stack, int64_t offset, int64_t step, const T* weight, bool first, int64_t n,
         T* sum) {
  FASTMEF_FOR_STORAGE(stack.dtype, add_as, address(stack, offset), step, weight, first, n, sum)
}

template <class T>
void mix(const Stack& stack, int64_t a, int64_t b, const T* w0, const T* w1, int64_t n, void* out) {
  FASTMEF_FOR_STORAGE(stack.dtype, mix_as, address(stack, a), address(stack, b), w0, w1, n, out)
}

// Repeats each value `times` times.
template <class T>
void repeat(const T* FASTMEF_RESTRICT in, int64_t n, int64_t times, T* FASTMEF_RESTRICT out) {
  if (times == 3) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      out[3 * x] = in[x];
      out[3 * x + 1] = in[x];
      out[3 * x + 2] = in[x];
    }
    return;
  }
  for (int64_t x = 0; x < n; ++x) {
    for (int64_t c = 0; c < times; ++c) out[x * times + c] = in[x];
  }
}

template <class T>
class SoftmaxFuse {
 public:
  SoftmaxFuse(const FuseArgs& args, void* scratch)
      : args_(args), arena_(scratch), weights_(args, arena_) {
    const int64_t k = args.exposures_count;
    const int64_t wide = kBlock * (interleaved() ? args.channels : 1);
    repeated_ = arena_.take<T>(k * wide);
    image_ = arena_.take<T>(wide);
    sum_ = arena_.take<T>(wide);
    mean_ = arena_.take<T>(kBlock);
    terms_ = arena_.take<T>(k * kBlock);
  }

  size_t bytes() const { return arena_.used(); }

  // Computes a row of F, and of the weights if they are wanted.
  void forward_row(int64_t b, int64_t y) {
    for (int64_t x = 0; x < args_.width; x += kBlock) {
      const int64_t n = args_.width - x < kBlock ? args_.width - x : kBlock;
      weights_.make(b, y, x, n);
      if (args_.weights.data) {
        for (int64_t k = 0; k < args_.exposures_count; ++k) {
          write(args_.weights, offset_of(args_.weights, b, k, 0, y, x), args_.weights.column, n,
                weights_.of(k));
        }
      }
      if (interleaved()) {
        for (int64_t k = 0; k < args_.exposures_count; ++k) {
          repeat(weights_.of(k), n, args_.channels, repeated_ + k * kBlock * args_.channels);
        }
        combine(b, 0, y, x, n * args_.channels, 1, repeated_, kBlock * args_.channels);
      } else {
        for (int64_t c = 0; c < args_.channels; ++c) {
          combine(b, c, y, x, n, args_.exposures.column, weights_.data(), kBlock);
        }
      }
    }
  }

  // Computes a row of the gradients that are wanted.
  void backward_row(int64_t b, int64_t y) {
    for (int64_t x = 0; x < args_.width; x += kBlock) {
      const int64_t n = args_.width - x < kBlock ? args_.width - x : kBlock;
      weights_.make(b, y, x, n);
      if (args_.grad_exposures.data) exposures_backward(b, y, x, n);
      if (args_.grad_logits.data) logits_backward(b, y, x, n);
    }
  }

 private:
  static constexpr int64_t kBlock = FuseWeights<T>::kBlock;

  // Returns whether both images are channels last, so that a row is one run of numbers.
  bool interleaved() const {
    const Stack &e = args_.exposures, &f = args_.fused;
    const int64_t c = args_.channels;
    return c > 1 && f.data && e.channel == 1 && e.column == c && f.channel == 1 && f.column == c;
  }

  // Writes n values of F. The weights of exposure k begin at weights + k * distance.
  void combine(int64_t b, int64_t c, int64_t y, int64_t x, int64_t n, int64_t step,
               const T* weights, int64_t distance) {
    const int64_t out_step = interleaved() ? 1 : args_.fused.column;
    const int64_t out = offset_of(args_.fused, b, 0, c, y, x);
    if (args_.exposures_count == 2 && step == 1 && out_step == 1) {
      mix(args_.exposures, offset_of(args_.exposures, b, 0, c, y, x),
          offset_of(args_.exposures, b, 1, c, y, x), weights, weights + distance, n,
          address(args_.fused, out));
      return;
    }
    for (int64_t k = 0; k < args_.exposures_count; ++k) {
      add(args_.exposures, offset_of(args_.exposures, b, k, c, y, x), step, weights + k * distance,
          k == 0, n, sum_);
    }
    write(args_.fused, out, out_step, n, sum_);
  }

  // Computes the gradient w.r.t. the exposures in columns [x, x + n).
  void exposures_backward(int64_t b, int64_t y, int64_t x, int64_t n) {
    const Stack& out = args_.grad_exposures;
    for (int64_t c = 0; c < args_.channels; ++c) {
      read(args_.grad_fused, offset_of(args_.grad_fused, b, 0, c, y, x), args_.grad_fused.column, n,
           image_);
      for (int64_t k = 0; k < args_.exposures_count; ++k) {
        T* FASTMEF_RESTRICT sum = sum_;
        const T* FASTMEF_RESTRICT w = weights_.of(k);
        const T* FASTMEF_RESTRICT g = image_;
        FASTMEF_VECTORIZE
        for (int64_t i = 0; i < n; ++i) sum[i] = w[i] * g[i];
        write(out, offset_of(out, b, k, c, y, x), out.column, n, sum_);
      }
    }
  }

  // Computes the gradient w.r.t. the logits in columns [x, x + n).
  void logits_backward(int64_t b, int64_t y, int64_t x, int64_t n) {
    const int64_t count = args_.exposures_count;
    for (int64_t k = 0; k < count; ++k) {
      T* FASTMEF_RESTRICT t = terms_ + k * kBlock;
      if (args_.grad_weights.data) {
        read(args_.grad_weights, offset_of(args_.grad_weights, b, k, 0, y, x),
             args_.grad_weights.column, n, terms_ + k * kBlock);
      } else {
        for (int64_t i = 0; i < n; ++i) t[i] = 0;
      }
    }
    for (int64_t c = 0; c < args_.channels && args_.grad_fused.data; ++c) {
      read(args_.grad_fused, offset_of(args_.grad_fused, b, 0, c, y, x), args_.grad_fused.column, n,
           sum_);
      for (int64_t k = 0; k < count; ++k) {
        read(args_.exposures, offset_of(args_.exposures, b, k, c, y, x), args_.exposures.column, n,
             image_);
        T* FASTMEF_RESTRICT t = terms_ + k * kBlock;
        const T* FASTMEF_RESTRICT g = sum_;
        const T* FASTMEF_RESTRICT image = image_;
        FASTMEF_VECTORIZE
        for (int64_t i = 0; i < n; ++i) t[i] += g[i] * image[i];
      }
    }
    const T temperature = static_cast<T>(args_.temperature);
    T* FASTMEF_RESTRICT mean = mean_;
    for (int64_t i = 0; i < n; ++i) mean[i] = 0;
    for (int64_t k = 0; k < count; ++k) {
      const T* FASTMEF_RESTRICT w = weights_.of(k);
      const T* FASTMEF_RESTRICT t = terms_ + k * kBlock;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) mean[i] += w[i] * t[i];
    }
    for (int64_t k = 0; k < count; ++k) {
      const T* FASTMEF_RESTRICT w = weights_.of(k);
      T* FASTMEF_RESTRICT t = terms_ + k * kBlock;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) t[i] = w[i] * (t[i] - mean[i]) / temperature;
      const Stack& out = args_.grad_logits;
      write(out, offset_of(out, b, k, 0, y, x), out.column, n, terms_ + k * kBlock);
    }
  }

  const FuseArgs& args_;
  Arena arena_;
  FuseWeights<T> weights_;
  T *repeated_, *image_, *sum_, *mean_, *terms_;
};

inline int64_t rows_per_task(const FuseArgs& args) {
  const int64_t rows = kTaskPixels / args.width;
  return rows > 1 ? rows : 1;
}

template <class T, bool Backward>
void rows_task(void* context, int64_t index, void* scratch) {
  const FuseArgs& args = *static_cast<const FuseArgs*>(context);
  SoftmaxFuse<T> operation(args, scratch);
  const int64_t rows = rows_per_task(args);
  for (int64_t r = index * rows; r < (index + 1) * rows && r < args.batch * args.height; ++r) {
    if (Backward) {
      operation.backward_row(r / args.height, r % args.height);
    } else {
      operation.forward_row(r / args.height, r % args.height);
    }
  }
}

template <class T, bool Backward>
void fuse(const FuseArgs& args) {
  const int64_t rows = rows_per_task(args);
  const int64_t tasks = (args.batch * args.height + rows - 1) / rows;
  parallel_for(tasks, args.threads, SoftmaxFuse<T>(args, nullptr).bytes(), rows_task<T, Backward>,
               const_cast<FuseArgs*>(&args));
}

}  // namespace

namespace FASTMEF_ISA {

void softmax_fuse(const FuseArgs& args, bool backward, bool in_double) {
  if (in_double) {
    backward ? fuse<double, true>(args) : fuse<double, false>(args);
  } else {
    backward ? fuse<float, true>(args) : fuse<float, false>(args);
  }
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
