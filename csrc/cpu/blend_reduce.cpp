// One level of the pyramid of exposures to the next: coarse = reduce(m fine) / reduce(m), by the
// window [1 3 3 1]/8 on both axes with border pixels repeated.
//
// A task makes some rows of all channels of an exposure. Compiled once for every instruction set.

#include "arena.h"
#include "blend.h"
#include "blend_rows.h"
#include "parallel.h"
#include "storage.h"
#include "tiles.h"
#include "variant.h"

namespace fastmef {
namespace {

constexpr int64_t kRows = 16;  // coarse rows a task makes

// out = a + 3 (b + c) + d, the window without its division by 8.
template <class S, class T>
void window_down_as(const void* const* rows, int64_t n, T* FASTMEF_RESTRICT out) {
  const S* FASTMEF_RESTRICT a = static_cast<const S*>(rows[0]);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(rows[1]);
  const S* FASTMEF_RESTRICT c = static_cast<const S*>(rows[2]);
  const S* FASTMEF_RESTRICT d = static_cast<const S*>(rows[3]);
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    out[x] = (to_number<T>(a[x]) + to_number<T>(d[x])) +
             T(3) * (to_number<T>(b[x]) + to_number<T>(c[x]));
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

  void run(int64_t b, int64_t k, int64_t y) {
    if (args_.validity.data) return run_masked(b, k, y);
    const Stack& fine = args_.fine;
    const int64_t width = args_.width;
    if (three_neighbours(fine, args_.channels)) {
      const void* rows[4];
      for (int64_t j = 0; j < 4; ++j) rows[j] = address(fine, at(fine, b, k, 0, row_of(y, j)));
      window_down(fine.dtype, rows, 3 * width, down_);
      split_three_as<T>(down_, width, padded_ + 1, across_ + 1, gathered_ + 1);
      T* const channels[3] = {padded_, across_, gathered_};
      for (int c = 0; c < 3; ++c) finish(b, k, c, y, channels[c], down_);
      return;
    }
    for (int64_t c = 0; c < args_.channels; ++c) {
      const void* rows[4];
      for (int64_t j = 0; j < 4; ++j) {
        const int64_t offset = at(fine, b, k, c, row_of(y, j));
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

  static int64_t at(const Stack& s, int64_t b, int64_t k, int64_t c, int64_t y) {
    return b * s.plane + k * s.layer + c * s.channel + y * s.row;
  }

  int64_t row_of(int64_t y, int64_t j) const { return clamp_index(2 * y - 1 + j, args_.height); }

  static void window_down(DType dtype, const void* const* rows, int64_t n, T* out) {
    FASTMEF_FOR_STORAGE(dtype, window_down_as, rows, n, out)
  }

  // The window along a row that begins in row[1].
  void window_across(T* row, T scale, T* FASTMEF_RESTRICT out) const {
    const int64_t width = args_.width, columns = (width + 1) / 2;
    row[0] = row[1];
    row[width + 1] = row[width + 2] = row[width];
    const T* FASTMEF_RESTRICT in = row;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < columns; ++x) {
      out[x] = ((in[2 * x] + in[2 * x + 3]) + T(3) * (in[2 * x + 1] + in[2 * x + 2])) * scale;
    }
  }

  double scale() const { return highest_of(args_.coarse.dtype) / highest_of(args_.fine.dtype); }

  void finish(int64_t b, int64_t k, int64_t c, int64_t y, T* row, T* out) const {
    // Sums of integers are exact, and so is their product with this one.
    window_across(row, static_cast<T>(scale() / 64), out);
    const Stack& to = args_.coarse;
    write(to, at(to, b, k, c, y), to.column, (args_.width + 1) / 2, out);
  }

  void run_masked(int64_t b, int64_t k, int64_t y) {
    const Stack &fine = args_.fine, &validity = args_.validity, &to = args_.coarse;
    const int64_t width = args_.width, columns = (width + 1) / 2;
    const void* rows[4];
    for (int64_t j = 0; j < 4; ++j) {
      T* mask = mask_ + j * stride_;
      read(validity, at(validity, b, k, 0, row_of(y, j)), validity.column, width, mask);
      rows[j] = mask;
    }
    window_down(number_type(), rows, width, padded_ + 1);
    window_across(padded_, T(1) / 64, coarse_mask_);
    const Stack& out = args_.coarse_validity;
    write(out, at(out, b, k, 0, y), out.column, columns, coarse_mask_);
    for (int64_t c = 0; c < args_.channels; ++c) {
      for (int64_t x = 0; x < width; ++x) padded_[x + 1] = 0;
      for (int64_t j = 0; j < 4; ++j) {
        const T* mask = mask_ + j * stride_;
        read(fine, at(fine, b, k, c, row_of(y, j)), fine.column, width, down_);
        const T share = j == 1 || j == 2 ? 3 : 1;
        for (int64_t x = 0; x < width; ++x) {
          if (mask[x] > 0) padded_[x + 1] += share * mask[x] * down_[x];
        }
      }
      window_across(padded_, static_cast<T>(scale() / 64), across_);
      for (int64_t x = 0; x < columns; ++x) {
        across_[x] = coarse_mask_[x] > 0 ? across_[x] / coarse_mask_[x] : T(0);
      }
      write(to, at(to, b, k, c, y), to.column, columns, across_);
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
