// The next level of the pyramid of exposures: coarse = reduce(m fine) / reduce(m), with the window
// [1 3 3 1]/8 on both axes and repeated border pixels.
//
// A task computes some rows of all channels of an exposure. This file is compiled once for every
// instruction set.

#include "cpu/multiscale/multiscale.h"
#include "cpu/multiscale/rows.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

constexpr int64_t kRows = 16;  // coarse rows of a task

// Returns a + 3 (b + c) + d, 8 times the window mean.
template <class T>
FASTMEF_HD T window_sum(T a, T b, T c, T d) {
  return static_cast<T>((a + d) + T(3) * (b + c));
}

// Filters four rows down the columns, without the division by 8.
template <class S, class T>
void window_down_as(const void* const* rows, int64_t n, T* FASTMEF_RESTRICT out) {
  const S* FASTMEF_RESTRICT a = static_cast<const S*>(rows[0]);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(rows[1]);
  const S* FASTMEF_RESTRICT c = static_cast<const S*>(rows[2]);
  const S* FASTMEF_RESTRICT d = static_cast<const S*>(rows[3]);
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    out[x] =
        window_sum(to_number<T>(a[x]), to_number<T>(b[x]), to_number<T>(c[x]), to_number<T>(d[x]));
  }
}

// Filters sums of bytes along a row. Sums over the window fit 16 bits, so that a register holds
// twice as many values. The result is 257/64 of the sum, rounded to the nearest, ties to even,
// which scales the mean to 16 bits.
inline void bytes_across(const uint16_t* FASTMEF_RESTRICT in, int64_t columns,
                         uint16_t* FASTMEF_RESTRICT out) {
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < columns; ++x) {
    const uint16_t sum = window_sum(in[2 * x], in[2 * x + 1], in[2 * x + 2], in[2 * x + 3]);
    const uint16_t odd = static_cast<uint16_t>((sum >> 6) & 1);
    const uint16_t rounded = static_cast<uint16_t>(static_cast<uint16_t>(sum + 31 + odd) >> 6);
    out[x] = static_cast<uint16_t>(4 * sum + rounded);
  }
}

template <class T>
class Reduce {
 public:
  Reduce(const ReduceArgs& args, void* scratch) : args_(args), arena_(scratch) {
    const int64_t wide = round_up(args.width + 4);
    const int64_t rows = args.fine.column == 1 ? 1 : 4;
    down_ = arena_.take<T>(args.channels * wide);
    padded_ = arena_.take<T>(wide);
    across_ = arena_.take<T>(wide);
    gathered_ = arena_.take<T>(rows * wide);
    if (args.validity.data) {
      mask_ = arena_.take<T>(4 * wide);
      coarse_mask_ = arena_.take<T>(wide);
    }
    stride_ = wide;
  }

  size_t bytes() const { return arena_.used(); }

  // Computes row y of all channels of an exposure.
  void run(int64_t b, int64_t k, int64_t y) {
    if (args_.validity.data) return run_masked(b, k, y);
    if (of_bytes()) return run_bytes(b, k, y);
    const Stack& fine = args_.fine;
    const int64_t width = args_.width;
    if (three_neighbours(fine, args_.channels)) {
      const void* rows[4];
      for (int64_t j = 0; j < 4; ++j)
        rows[j] = address(fine, offset_of(fine, b, k, 0, row_of(y, j), 0));
      window_down(fine.dtype, rows, 3 * width, down_);
      split_three_as<T>(down_, width, padded_ + 1, across_ + 1, gathered_ + 1);
      T* const channels[3] = {padded_, across_, gathered_};
      for (int c = 0; c < 3; ++c) finish(b, k, c, y, channels[c], down_);
      return;
    }
    for (int64_t c = 0; c < args_.channels; ++c) {
      const void* rows[4];
      for (int64_t j = 0; j < 4; ++j) {
        const int64_t offset = offset_of(fine, b, k, c, row_of(y, j), 0);
        rows[j] = address(fine, offset);
        if (fine.column == 1) continue;
        read(fine, offset, fine.column, width, gathered_ + j * stride_);
        rows[j] = gathered_ + j * stride_;
      }
      window_down(fine.column == 1 ? fine.dtype : number_type(), rows, width, padded_ + 1);
      finish(b, k, c, y, padded_, across_);
    }
  }

 private:
  static DType number_type() { return sizeof(T) == 8 ? kFloat64 : kFloat32; }

  int64_t row_of(int64_t y, int64_t j) const { return clamp_index(2 * y - 1 + j, args_.height); }

  static void window_down(DType dtype, const void* const* rows, int64_t n, T* out) {
    FASTMEF_FOR_STORAGE(dtype, window_down_as, rows, n, out)
  }

  // Repeats the first and the last pixel of a row that begins at row[1].
  template <class N>
  void repeat_border(N* row) const {
    row[0] = row[1];
    row[args_.width + 1] = row[args_.width + 2] = row[args_.width];
  }

  // Filters a row that begins at row[1].
  void window_across(T* row, T scale, T* FASTMEF_RESTRICT out) const {
    const int64_t columns = (args_.width + 1) / 2;
    repeat_border(row);
    const T* FASTMEF_RESTRICT in = row;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < columns; ++x) {
      out[x] = scale * window_sum(in[2 * x], in[2 * x + 1], in[2 * x + 2], in[2 * x + 3]);
    }
  }

  double scale() const { return highest_of(args_.coarse.dtype) / highest_of(args_.fine.dtype); }

  // Filters a row that was filtered down the columns, and writes it.
  void finish(int64_t b, int64_t k, int64_t c, int64_t y, T* row, T* out) const {
    // Sums of integers are exact, and so is their product with this scale.
    window_across(row, static_cast<T>(scale() / 64), out);
    const Stack& to = args_.coarse;
    write(to, offset_of(to, b, k, c, y, 0), to.column, (args_.width + 1) / 2, out);
  }

  // Returns whether bytes are reduced to 16 bits, which takes integer arithmetic only.
  bool of_bytes() const {
    const Stack &fine = args_.fine, &to = args_.coarse;
    const bool dense = fine.column == 1 || three_neighbours(fine, args_.channels);
    return fine.dtype == kUInt8 && to.dtype == kUInt16 && to.column == 1 && dense;
  }

  void run_bytes(int64_t b, int64_t k, int64_t y) {
    const Stack &fine = args_.fine, &to = args_.coarse;
    const int64_t width = args_.width, columns = (width + 1) / 2;
    auto* const down = reinterpret_cast<uint16_t*>(down_);
    uint16_t* const channels[3] = {reinterpret_cast<uint16_t*>(padded_),
                                   reinterpret_cast<uint16_t*>(across_),
                                   reinterpret_cast<uint16_t*>(gathered_)};
    const bool neighbours = fine.column != 1;
    const void* rows[4];
    for (int64_t c = 0; c < args_.channels; ++c) {
      uint16_t* row = channels[neighbours ? c : 0];
      if (!neighbours || c == 0) {
        for (int64_t j = 0; j < 4; ++j)
          rows[j] = address(fine, offset_of(fine, b, k, c, row_of(y, j), 0));
        window_down_as<uint8_t>(rows, neighbours ? 3 * width : width, neighbours ? down : row + 1);
      }
      if (neighbours && c == 0) {
        split_three_as<uint16_t>(down, width, channels[0] + 1, channels[1] + 1, channels[2] + 1);
      }
      repeat_border(row);
      bytes_across(row, columns,
                   reinterpret_cast<uint16_t*>(address(to, offset_of(to, b, k, c, y, 0))));
    }
  }

  void run_masked(int64_t b, int64_t k, int64_t y) {
    const Stack &fine = args_.fine, &validity = args_.validity, &to = args_.coarse;
    const int64_t width = args_.width, columns = (width + 1) / 2;
    const void* rows[4];
    for (int64_t j = 0; j < 4; ++j) {
      T* mask = mask_ + j * stride_;
      read(validity, offset_of(validity, b, k, 0, row_of(y, j), 0), validity.column, width, mask);
      rows[j] = mask;
    }
    window_down(number_type(), rows, width, padded_ + 1);
    window_across(padded_, T(1) / 64, coarse_mask_);
    const Stack& out = args_.coarse_validity;
    write(out, offset_of(out, b, k, 0, y, 0), out.column, columns, coarse_mask_);
    for (int64_t c = 0; c < args_.channels; ++c) {
      for (int64_t x = 0; x < width; ++x) padded_[x + 1] = 0;
      for (int64_t j = 0; j < 4; ++j) {
        const T* mask = mask_ + j * stride_;
        read(fine, offset_of(fine, b, k, c, row_of(y, j), 0), fine.column, width, down_);
        const T tap = j == 1 || j == 2 ? 3 : 1;
        for (int64_t x = 0; x < width; ++x) {
          if (mask[x] > 0) padded_[x + 1] += tap * mask[x] * down_[x];
        }
      }
      window_across(padded_, static_cast<T>(scale() / 64), across_);
      for (int64_t x = 0; x < columns; ++x) {
        across_[x] = coarse_mask_[x] > 0 ? across_[x] / coarse_mask_[x] : T(0);
      }
      write(to, offset_of(to, b, k, c, y, 0), to.column, columns, across_);
    }
  }

  const ReduceArgs& args_;
  Arena arena_;
  int64_t stride_ = 0;
  T *down_, *padded_, *across_, *gathered_, *mask_ = nullptr, *coarse_mask_ = nullptr;
};

int64_t strips_of(const ReduceArgs& args) {
  return (args.row_end - args.row_begin + kRows - 1) / kRows;
}

template <class T>
void reduce_task(void* context, int64_t index, void* scratch) {
  const ReduceArgs& args = *static_cast<const ReduceArgs*>(context);
  const int64_t image = index / strips_of(args);
  const int64_t begin = args.row_begin + index % strips_of(args) * kRows;
  Reduce<T> reduce(args, scratch);
  for (int64_t y = begin; y < least(begin + kRows, args.row_end); ++y) {
    reduce.run(image / args.count, image % args.count, y);
  }
}

template <class T>
void reduce(const ReduceArgs& args) {
  parallel_for(args.batch * args.count * strips_of(args), args.threads,
               Reduce<T>(args, nullptr).bytes(), reduce_task<T>, const_cast<ReduceArgs*>(&args));
}

}  // namespace

namespace FASTMEF_ISA {

void pyramid_reduce(const ReduceArgs& args, bool in_double) {
  in_double ? reduce<double>(args) : reduce<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
