// One band of multiscale_fuse:
//
//   F = E(F') + contrast sum_k gamma_k (J_k - E(J'_k)),   gamma_k = a_k / sum_j a_j,
//   a_k = share_k m_k (variance_k + floor)^2,             E = expand
//
// A task handles a block of columns and some rows. It reads each row of J once, keeps the luma of
// the rows of a window, and computes a row of F. All values are scaled to the range of F: for the
// finest level of integer exposures that is the range of the integers. This file is compiled once
// for every instruction set.

#include "cpu/multiscale/band_expansion.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

constexpr int64_t kStrip = 64;  // rows

template <class T>
class Band {
 public:
  Band(const BandArgs& args, const Block& block, void* scratch)
      : args_(args),
        block_(block),
        arena_(scratch),
        stride_(block_stride(args)),
        unit_(args.finest ? highest_of(args.fine.dtype) : 1.0),
        knee_(make_knee<T>(args.low, args.high, unit_)),
        weights_(args, block_, arena_),
        expansion_(args, block_, arena_) {
    above_ = arena_.take<T>((args.count + 1) * stride_);
    slope_ = arena_.take<T>(stride_);
    fine_ = arena_.take<const void*>(args.count);
    if (args.fused.column != 1) packed_ = arena_.take<char>(args.channels * stride_ * 8);
  }

  size_t bytes() const { return arena_.used(); }

  void run(int64_t begin, int64_t end) {
    int64_t next = weights_.first_row(begin);
    for (int64_t y = begin; y < end; ++y) {
      for (; next < weights_.end_row(y); ++next) weights_.read_row(next);
      weights_.make_weights(y);
      for (int64_t c = 0; c < args_.channels; ++c) {
        expansion_.expand(args_.fused_coarse, 0, c, y, unit_, above_);
        for (int64_t k = 0; k < args_.count; ++k) {
          const double scale = unit_ / highest_of(args_.coarse.dtype);
          expansion_.expand(args_.coarse, k, c, y, scale, above_ + (k + 1) * stride_);
        }
        mix(y, c);
      }
      if (packed_) unpack(y);
    }
  }

 private:
  // Computes row y of channel c of F from the expanded rows in above_.
  void mix(int64_t y, int64_t c) {
    const T scale = static_cast<T>(unit_ / highest_of(args_.fine.dtype));
    const int64_t skip = (block_.x - block_.left) * size_of(args_.fine.dtype);
    for (int64_t k = 0; k < args_.count; ++k) fine_[k] = weights_.channel(k, c, y) + skip;
    void* out = packed_ ? packed_ + c * stride_ * 8
                        : address(args_.fused, offset_of(args_.fused, block_.b, 0, c, y, block_.x));
    if (!args_.validity.data && !args_.slope.data) {
      if (args_.count == 2) return mix_few(Count<2>(), scale, out);
      if (args_.count == 3) return mix_few(Count<3>(), scale, out);
    }
    T* sum = above_;
    for (int64_t k = 0; k < args_.count; ++k) {
      add_band(fine_[k], scale, weights_.weights() + k * stride_, above_ + (k + 1) * stride_,
               weights_.mask(k, y), sum);
    }
    if (args_.slope.data) {
      const Knee<T> knee = knee_;
      for (int64_t i = 0; i < block_.n; ++i) slope_[i] = compress_slope(sum[i], knee);
      write(args_.slope, offset_of(args_.slope, block_.b, 0, c, y, block_.x), args_.slope.column,
            block_.n, slope_);
    }
    const Knee<T> knee = knee_;
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < block_.n; ++i) sum[i] = compress(sum[i], knee);
    store(sum, out);
  }

  // Computes a row of F from K exposures without validity and slope.
  template <int K>
  void mix_few(Count<K> count, T scale, void* out) {
    if (args_.finest) {
      FASTMEF_FOR_STORAGE(args_.fine.dtype, mix_finest_as, count, fine_, scale, weights_.weights(),
                          stride_, above_, block_.n, knee_, out)
    } else {
      FASTMEF_FOR_STORAGE(args_.fine.dtype, mix_inner_as, count, fine_, scale, weights_.weights(),
                          stride_, above_, block_.n, knee_, out)
    }
  }

  void add_band(const void* fine, T scale, const T* weight, const T* below, const T* mask, T* sum) {
    FASTMEF_FOR_STORAGE(args_.fine.dtype, add_band_as, fine, scale, weight, below, mask, block_.n,
                        sum)
  }

  // Writes a row in the type of F.
  void store(const T* in, void* out) {
    FASTMEF_FOR_STORAGE(args_.fused.dtype, write_as, in, 1, block_.n, out)
  }

  // Copies the channels of row y, which were computed one by one, to F.
  void unpack(int64_t y) {
    const Stack& fused = args_.fused;
    if (three_neighbours(fused, args_.channels)) {
      join_three(fused, offset_of(fused, block_.b, 0, 0, y, block_.x), block_.n, packed_,
                 packed_ + stride_ * 8, packed_ + 2 * stride_ * 8);
      return;
    }
    for (int64_t c = 0; c < args_.channels; ++c) {
      scatter(fused, offset_of(fused, block_.b, 0, c, y, block_.x), block_.n,
              packed_ + c * stride_ * 8);
    }
  }

  const BandArgs& args_;
  const Block block_;
  Arena arena_;
  const int64_t stride_;
  const double unit_;
  const Knee<T> knee_;
  BandWeights<T> weights_;
  BandExpansion<T> expansion_;
  T *above_, *slope_;
  const void** fine_;
  char* packed_ = nullptr;
};

int64_t parts(int64_t size, int64_t part) { return (size + part - 1) / part; }

template <class T>
void band_task(void* context, int64_t index, void* scratch) {
  const BandArgs& args = *static_cast<const BandArgs*>(context);
  const int64_t strips = parts(args.row_end - args.row_begin, kStrip);
  const int64_t columns = block_columns(args), blocks = parts(args.width, columns);
  const int64_t x = index % blocks * columns;
  const int64_t y = args.row_begin + index / blocks % strips * kStrip;
  const Block block(args, index / blocks / strips, x, least(columns, args.width - x));
  Band<T>(args, block, scratch).run(y, least(y + kStrip, args.row_end));
}

template <class T>
void band(const BandArgs& args) {
  const int64_t tasks = args.batch * parts(args.row_end - args.row_begin, kStrip) *
                        parts(args.width, block_columns(args));
  parallel_for(tasks, args.threads, Band<T>(args, Block(args, 0, 0, 0), nullptr).bytes(),
               band_task<T>, const_cast<BandArgs*>(&args));
}

}  // namespace

namespace FASTMEF_ISA {

void blend_band(const BandArgs& args, bool in_double) {
  in_double ? band<double>(args) : band<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
