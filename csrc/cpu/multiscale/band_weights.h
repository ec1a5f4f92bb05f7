// The weights gamma_k of a band, from the variance of luma in the windows around each pixel.
#pragma once

#include "common/math.h"
#include "cpu/multiscale/band_rows.h"
#include "cpu/multiscale/multiscale.h"
#include "cpu/multiscale/variance.h"
#include "cpu/runtime/arena.h"

namespace fastmef {
namespace {

constexpr int kUsualRadius = 4;  // windows of this radius have specialised loops
constexpr double kGray[3] = {0.298936021293775, 0.587043074451121, 0.114020904255103};

// Returns the columns of a block: an even number with which the luma of all rows of its windows
// stays in the second-level cache.
inline int64_t block_columns(const BandArgs& args) {
  const int64_t fit = 40960 / (args.count * (2 * args.radius + 1)) / 256 * 256;
  return most(256, least(fit, 2048));
}

// Returns the length of a row of a block in scratch memory, with the columns that its windows reach
// beyond the block.
inline int64_t block_stride(const BandArgs& args) {
  return round_up(block_columns(args) + 2 * args.radius) + kLane;
}

// The columns [x, x + n) of image b. [left, right) also contains the columns of the image that
// windows reach beyond them.
struct Block {
  int64_t b, x, n, left, right;

  Block(const BandArgs& args, int64_t b, int64_t x, int64_t n)
      : b(b),
        x(x),
        n(n),
        left(most(0, x - args.radius)),
        right(least(args.width, x + n + args.radius)) {}
};

template <class T>
class BandWeights {
 public:
  BandWeights(const BandArgs& args, const Block& block, Arena& arena)
      : args_(args),
        block_(block),
        taps_(2 * args.radius + 1),
        slots_(taps_ + 1),
        stride_(block_stride(args)) {
    const int64_t count = args.count;
    gray_ = arena.take<T>(count * slots_ * stride_);
    rows_ = arena.take<const T*>(slots_);
    // The moments of the columns of every exposure, for a pair of rows if the radius is the usual.
    mean_ = arena.take<T>(2 * count * stride_);
    deviation_ = arena.take<T>(2 * count * stride_);
    sum_ = arena.take<T>(stride_);
    squares_ = arena.take<T>(stride_);
    weights_ = arena.take<T>(count * stride_);
    total_ = arena.take<T>(stride_);
    if (!dense()) split_ = arena.take<char>(count * args.channels * slots_ * channel_bytes());
    if (masked()) {
      mask_ = arena.take<T>(count * slots_ * stride_);
      mask_rows_ = arena.take<const T*>(taps_);
      plain_total_ = arena.take<T>(stride_);
      moments_ = arena.take<double>(3 * stride_);
    }
  }

  // The weights of exposure k begin at weights() + k * block_stride(args).
  const T* weights() const { return weights_; }

  // Returns a channel of an exposure in a row that was read, from column block.left on.
  char* channel(int64_t k, int64_t c, int64_t y) const {
    const Stack fine = exposure(k);
    if (dense()) return address(fine, offset_of(fine, block_.b, 0, c, y, block_.left));
    return split_ + ((y % slots_ * args_.count + k) * args_.channels + c) * channel_bytes();
  }

  // Returns the validity of an exposure in a row that was read, from column block.x on; null if all
  // pixels are valid.
  const T* mask(int64_t k, int64_t y) const {
    return masked() ? mask_row(k, y) + args_.radius : nullptr;
  }

  // Return the first row, and the row after the last, that must be read before the weights of row
  // y. They belong to the windows of two rows, the even one and the odd one below it.
  int64_t first_row(int64_t y) const { return most(0, y / 2 * 2 - args_.radius); }
  int64_t end_row(int64_t y) const { return least(args_.height, y / 2 * 2 + args_.radius + 2); }

  // Reads row y of all exposures.
  void read_row(int64_t y) {
    const int64_t n = block_.right - block_.left, begin = block_.x - args_.radius,
                  end = block_.x + block_.n + args_.radius;
    for (int64_t k = 0; k < args_.count; ++k) {
      const Stack fine = exposure(k);
      if (three_neighbours(fine, args_.channels)) {
        split_three(fine, offset_of(fine, block_.b, 0, 0, y, block_.left), n, channel(k, 0, y),
                    channel(k, 1, y), channel(k, 2, y));
      } else if (!dense()) {
        for (int64_t c = 0; c < args_.channels; ++c) {
          gather(fine, offset_of(fine, block_.b, 0, c, y, block_.left), n, channel(k, c, y));
        }
      }
      T* gray = gray_row(k, y) + (block_.left - begin);
      make_gray(k, y, n, gray);
      if (masked()) {
        const Stack& validity = args_.validity;
        T* mask = mask_row(k, y) + (block_.left - begin);
        read(validity, offset_of(validity, block_.b, k, 0, y, block_.left), validity.column, n,
             mask);
        for (int64_t i = 0; i < n; ++i) gray[i] = mask[i] > 0 ? gray[i] : T(0);
        repeat_ends(mask_row(k, y), begin, end, block_.left, block_.right);
      }
      repeat_ends(gray_row(k, y), begin, end, block_.left, block_.right);
    }
  }

  // Computes the weights of row y.
  void make_weights(int64_t y) {
    const T floor = static_cast<T>(args_.floor), contrast = static_cast<T>(args_.contrast);
    T highest_share = 0;
    for (int64_t k = 0; k < args_.count; ++k) highest_share = larger(highest_share, share_of(k));
    const bool shared = highest_share > 0;  // shares that are all 0 are ignored
    if (paired() && y / 2 != pair_) measure_columns(y / 2);
    if (args_.count == 2 && !masked()) return make_two_weights(y, shared);
    for (int64_t k = 0; k < args_.count; ++k) {
      T* activity = weights_ + k * stride_;
      make_variance(k, y, activity);
      if (masked()) {
        activity_row(activity, floor, T(1), k == 0, block_.n, total_);
      } else {
        activity_row(activity, floor, shared ? share_of(k) : T(1), k == 0, block_.n, total_);
      }
    }
    if (masked()) apply_validity(y);
    T* FASTMEF_RESTRICT inverse = total_;
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < block_.n; ++i) inverse[i] = contrast / inverse[i];
    for (int64_t k = 0; k < args_.count; ++k) {
      T* FASTMEF_RESTRICT weight = weights_ + k * stride_;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < block_.n; ++i) weight[i] *= inverse[i];
    }
  }

 private:
  bool dense() const { return args_.fine.column == 1; }
  bool masked() const { return args_.validity.data; }
  bool paired() const { return args_.radius == kUsualRadius && !masked(); }

  // Returns one exposure of the level as a Stack with K = 1.
  Stack exposure(int64_t k) const {
    Stack fine = args_.fine;
    fine.data = args_.layers ? const_cast<void*>(args_.layers[k])
                             : address(fine, offset_of(fine, 0, k, 0, 0, 0));
    return fine;
  }

  int64_t channel_bytes() const { return stride_ * size_of(args_.fine.dtype); }

  // Return rows of grey values and masks, which begin `radius` columns before the block.
  T* gray_row(int64_t k, int64_t y) const {
    return gray_ + (y % slots_ * args_.count + k) * stride_;
  }
  T* mask_row(int64_t k, int64_t y) const {
    return mask_ + (y % slots_ * args_.count + k) * stride_;
  }

  // Computes the luma, or the mean over the channels unless there are three, in [0, 1].
  void make_gray(int64_t k, int64_t y, int64_t n, T* gray) {
    const DType dtype = args_.fine.dtype;
    if (args_.channels == 3) {
      T coefficients[3];
      for (int c = 0; c < 3; ++c) coefficients[c] = static_cast<T>(kGray[c] / highest_of(dtype));
      to_gray(channel(k, 0, y), channel(k, 1, y), channel(k, 2, y), coefficients, n, gray);
      return;
    }
    const T coefficient = static_cast<T>(1 / (highest_of(dtype) * args_.channels));
    for (int64_t c = 0; c < args_.channels; ++c) {
      add_gray(channel(k, c, y), coefficient, c == 0, n, gray);
    }
  }

  void to_gray(const void* r, const void* g, const void* b, const T* coefficients, int64_t n,
               T* gray) {
    FASTMEF_FOR_STORAGE(args_.fine.dtype, gray_as, r, g, b, coefficients, n, gray)
  }

  void add_gray(const void* in, T coefficient, bool first, int64_t n, T* gray){
      FASTMEF_FOR_STORAGE(args_.fine.dtype, add_gray_as, in, coefficient, first, n, gray)}

  // Returns the share of exposure k, 1 without shares.
  T share_of(int64_t k) {
    if (!args_.shares.data) return 1;
    T share = 1;
    read(args_.shares, offset_of(args_.shares, block_.b, k, 0, 0, 0), 1, 1, &share);
    return share;
  }

  // Computes the weights of two exposures without a pass for each step.
  void make_two_weights(int64_t y, bool shared) {
    T* FASTMEF_RESTRICT a = weights_;
    T* FASTMEF_RESTRICT b = weights_ + stride_;
    make_variance(0, y, a);
    make_variance(1, y, b);
    const T floor = static_cast<T>(args_.floor), contrast = static_cast<T>(args_.contrast);
    const T share_a = shared ? share_of(0) : T(1), share_b = shared ? share_of(1) : T(1);
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < block_.n; ++i) {
      const T u = activity(a[i], floor, share_a), v = activity(b[i], floor, share_b);
      const T inverse = contrast / (u + v);
      a[i] = inverse * u;
      b[i] = inverse * v;
    }
  }

  // Computes the moments of the columns of all windows of the rows 2 pair and 2 pair + 1.
  void measure_columns(int64_t pair) {
    pair_ = pair;
    for (int64_t k = 0; k < args_.count; ++k) {
      for (int64_t j = 0; j < slots_; ++j) {
        rows_[j] = gray_row(k, clamp_index(2 * pair - args_.radius + j, args_.height));
      }
      const int64_t at = 2 * k * stride_;
      column_moments_of_nine(rows_, block_.n + 2 * args_.radius, stride_, mean_ + at,
                             deviation_ + at);
    }
  }

  // Computes the variance of exposure k in the windows of row y.
  void make_variance(int64_t k, int64_t y, T* variance) {
    if (paired()) {
      const int64_t at = (2 * k + y % 2) * stride_;
      row_variance_of_nine(mean_ + at, deviation_ + at, block_.n, variance, sum_, squares_);
      return;
    }
    for (int64_t j = 0; j < taps_; ++j) {
      const int64_t row = clamp_index(y - args_.radius + j, args_.height);
      rows_[j] = gray_row(k, row);
      if (masked()) mask_rows_[j] = mask_row(k, row);
    }
    const int64_t wide = block_.n + 2 * args_.radius;
    if (masked()) {
      masked_variance(rows_, mask_rows_, args_.radius, block_.n, moments_, moments_ + stride_,
                      moments_ + 2 * stride_, variance);
    } else {
      column_moments(rows_, args_.radius, wide, mean_, deviation_, sum_, squares_);
      row_variance(mean_, deviation_, args_.radius, block_.n, variance, sum_, squares_);
    }
  }

  // Multiplies the activity with validity and shares. Shares are ignored at pixels where they make
  // all activities 0.
  void apply_validity(int64_t y) {
    for (int64_t i = 0; i < block_.n; ++i) total_[i] = plain_total_[i] = 0;
    for (int64_t k = 0; k < args_.count; ++k) {
      const T* mask = mask_row(k, y) + args_.radius;
      T* activity = weights_ + k * stride_;
      const T share = share_of(k);
      for (int64_t i = 0; i < block_.n; ++i) {
        activity[i] *= mask[i];
        plain_total_[i] += activity[i];
        total_[i] += share * activity[i];
      }
    }
    for (int64_t k = 0; k < args_.count; ++k) {
      T* activity = weights_ + k * stride_;
      const T share = share_of(k);
      for (int64_t i = 0; i < block_.n; ++i) activity[i] *= total_[i] > 0 ? share : T(1);
    }
    for (int64_t i = 0; i < block_.n; ++i) total_[i] = total_[i] > 0 ? total_[i] : plain_total_[i];
  }

  const BandArgs& args_;
  const Block& block_;
  const int64_t taps_, slots_, stride_;
  int64_t pair_ = -1;  // the rows 2 pair_ and 2 pair_ + 1 whose columns were measured
  T *gray_, *mean_, *deviation_, *sum_, *squares_, *weights_, *total_;
  T *mask_ = nullptr, *plain_total_ = nullptr;
  const T **rows_, **mask_rows_ = nullptr;
  char* split_ = nullptr;
  double* moments_ = nullptr;
};

}  // namespace
}  // namespace fastmef
