// The weighted sum of RGB exposures by the softmax of logits, its washed-out colour given back.
//
//   F = sum_k W_k I_k,   F' = F + t (Y_F + (1 + s/2) D - F),
//   D = (1 - s/2) (F - Y_F) + s/2 (Y_F + e) R,   R = sum_k V_k (I_k - Y_k) / (Y_k + e),
//   V_k = V'_k / sum_j V'_j,   V'_k = W_k (1 - max_rgb(I_k)^8 + d)
//
// with the largest t <= 1 that keeps every channel within the exposures'. Y is luma, e the noise
// floor, d the trust in what is clipped.
//
// Compiled once for every instruction set, whose name is FASTMEF_ISA, and once for the binding.

#include "cpu/fusion/softmax_fuse.h"

namespace fastmef {

struct RestoreArgs {
  FuseArgs fuse;  // without validity and gradients
  double strength, noise_floor, clipped_trust;
  double gray[3];  // coefficients of luma
};

FASTMEF_KERNEL(fuse_restored, void(const RestoreArgs&, bool in_double))

}  // namespace fastmef

#ifdef FASTMEF_ISA

#include "cpu/fusion/weights.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

constexpr int64_t kTaskPixels = 16384;

template <class T>
class Restore {
  static constexpr int64_t kBlock = FuseWeights<T>::kBlock;

  // Rows of scratch: sums over the exposures, and the range of every channel. The result takes the
  // place of the sums of channels.
  enum {
    kSum,
    kRelative = kSum + 3,
    kLow = kRelative + 3,
    kHigh = kLow + 3,
    kTotal = kHigh + 3,
    kRows
  };

 public:
  Restore(const RestoreArgs& args, void* scratch)
      : args_(args),
        arena_(scratch),
        weights_(args.fuse, arena_),
        image_(arena_.take<T>(3 * kBlock)),
        rows_(arena_.take<T>(kRows * kBlock)),
        unit_(static_cast<T>(args.fuse.exposures.dtype == kUInt8    ? 255
                             : args.fuse.exposures.dtype == kUInt16 ? 65535
                                                                    : 1)),
        half_(static_cast<T>(args.strength / 2)),
        floor_(static_cast<T>(args.noise_floor)),
        trust_(static_cast<T>(args.clipped_trust)) {
    for (int c = 0; c < 3; ++c) gray_[c] = static_cast<T>(args.gray[c]);
  }

  size_t bytes() const { return arena_.used(); }

  void run(int64_t b, int64_t y) {
    const FuseArgs& fuse = args_.fuse;
    for (int64_t x = 0; x < fuse.width; x += kBlock) {
      const int64_t n = least(kBlock, fuse.width - x);
      weights_.make(b, y, x, n);
      for (int64_t k = 0; k < fuse.exposures_count; ++k) {
        if (fuse.weights.data) {
          write(fuse.weights, offset_of(fuse.weights, b, k, y, x), fuse.weights.column, n,
                weights_.of(k));
        }
        for (int64_t c = 0; c < 3; ++c) {
          read(fuse.exposures, offset_of(fuse.exposures, b, k, c, y, x), fuse.exposures.column, n,
               image_ + c * kBlock);
        }
        k ? add<false>(weights_.of(k), n) : add<true>(weights_.of(k), n);
      }
      restore(n);
      for (int64_t c = 0; c < 3; ++c) {
        write(fuse.fused, offset_of(fuse.fused, b, 0, c, y, x), fuse.fused.column, n,
              row(kSum + c));
      }
    }
  }

 private:
  T* row(int index) const { return rows_ + index * kBlock; }

  T luma(T red, T green, T blue) const {
    return gray_[0] * red + gray_[1] * green + gray_[2] * blue;
  }

  // Adds an exposure to the sums.
  template <bool First>
  void add(const T* FASTMEF_RESTRICT weight, int64_t n) {
    const T* FASTMEF_RESTRICT image = image_;
    T* FASTMEF_RESTRICT rows = rows_;
    const T scale = T(1) / unit_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      const T red = scale * image[x], green = scale * image[kBlock + x];
      const T blue = scale * image[2 * kBlock + x];
      const T gray = luma(red, green, blue);
      const T square = larger(larger(red, green), blue) * larger(larger(red, green), blue);
      const T fourth = square * square;
      const T trust = weight[x] * (1 - fourth * fourth + trust_);
      const T share = trust / (gray + floor_);
      const T channels[3] = {red, green, blue};
      for (int c = 0; c < 3; ++c) {
        const T value = channels[c];
        T* at = rows + c * kBlock + x;
        at[kSum * kBlock] = weight[x] * value + (First ? T(0) : at[kSum * kBlock]);
        at[kRelative * kBlock] = share * (value - gray) + (First ? T(0) : at[kRelative * kBlock]);
        at[kLow * kBlock] = First || value < at[kLow * kBlock] ? value : at[kLow * kBlock];
        at[kHigh * kBlock] = First || value > at[kHigh * kBlock] ? value : at[kHigh * kBlock];
      }
      T* total = rows + kTotal * kBlock + x;
      *total = trust + (First ? T(0) : *total);
    }
  }

  // Replaces the sums of channels by the result, in the unit of the exposures.
  void restore(int64_t n) {
    T* FASTMEF_RESTRICT rows = rows_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      T fused[3], change[3];
      for (int c = 0; c < 3; ++c) fused[c] = rows[(kSum + c) * kBlock + x];
      const T gray = luma(fused[0], fused[1], fused[2]);
      const T own = (gray + floor_) / larger(rows[kTotal * kBlock + x], T(1e-12));
      T share = 1;
      for (int c = 0; c < 3; ++c) {
        const T color = fused[c] - gray;
        const T restored = color + half_ * (own * rows[(kRelative + c) * kBlock + x] - color);
        change[c] = gray + (1 + half_) * restored - fused[c];
        const T room = change[c] > 0 ? rows[(kHigh + c) * kBlock + x] - fused[c]
                                     : fused[c] - rows[(kLow + c) * kBlock + x];
        const T size = larger(change[c] > 0 ? change[c] : -change[c], T(1e-9));
        const T fits = larger(room, T(0)) / size;
        share = fits < share ? fits : share;
      }
      for (int c = 0; c < 3; ++c) {
        rows[(kSum + c) * kBlock + x] = unit_ * (fused[c] + share * change[c]);
      }
    }
  }

  const RestoreArgs& args_;
  Arena arena_;
  FuseWeights<T> weights_;
  T *image_, *rows_;
  const T unit_, half_, floor_, trust_;
  T gray_[3];
};

int64_t rows_per_task(const FuseArgs& args) { return most(1, kTaskPixels / args.width); }

template <class T>
void restore_task(void* context, int64_t index, void* scratch) {
  const RestoreArgs& args = *static_cast<const RestoreArgs*>(context);
  Restore<T> operation(args, scratch);
  const int64_t rows = rows_per_task(args.fuse), all = args.fuse.batch * args.fuse.height;
  for (int64_t r = index * rows; r < least((index + 1) * rows, all); ++r) {
    operation.run(r / args.fuse.height, r % args.fuse.height);
  }
}

template <class T>
void fuse(const RestoreArgs& args) {
  const int64_t rows = rows_per_task(args.fuse), all = args.fuse.batch * args.fuse.height;
  parallel_for((all + rows - 1) / rows, args.fuse.threads, Restore<T>(args, nullptr).bytes(),
               restore_task<T>, const_cast<RestoreArgs*>(&args));
}

}  // namespace

namespace FASTMEF_ISA {

void fuse_restored(const RestoreArgs& args, bool in_double) {
  in_double ? fuse<double>(args) : fuse<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef

#else

#include "common/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// `shape` is (B, K, 3, H, W).
void fuse_restored(bool in_double, const std::array<int64_t, 5>& shape, const Stack& logits,
                   const Stack& exposures, const Stack& fused, const Stack& weights,
                   double strength, double noise_floor, double clipped_trust,
                   const std::array<double, 3>& gray, int threads) {
  RestoreArgs args{};
  args.fuse.batch = shape[0];
  args.fuse.exposures_count = shape[1];
  args.fuse.channels = shape[2];
  args.fuse.height = shape[3];
  args.fuse.width = shape[4];
  args.fuse.temperature = 1;
  args.fuse.logits = logits;
  args.fuse.exposures = exposures;
  args.fuse.fused = fused;
  args.fuse.weights = weights;
  args.fuse.threads = threads;
  args.strength = strength;
  args.noise_floor = noise_floor;
  args.clipped_trust = clipped_trust;
  for (int c = 0; c < 3; ++c) args.gray[c] = gray[c];
  const py::gil_scoped_release release;
  fuse_restored_kernel(args, in_double);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("fuse_restored", &fuse_restored); }

}  // namespace fastmef

#endif
