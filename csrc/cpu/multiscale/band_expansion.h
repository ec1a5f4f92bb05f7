// Expansion of the next level's images to the size of a band.
#pragma once

#include "cpu/multiscale/band_weights.h"

namespace fastmef {
namespace {

template <class T>
class BandExpansion {
 public:
  BandExpansion(const BandArgs& args, const Block& block, Arena& arena)
      : args_(args), block_(block), stride_(block_stride(args)) {
    between_ = arena.take<T>(2 * stride_);
    own_ = arena.take<T>(stride_);
    other_ = arena.take<T>(stride_);
    if (args.validity.data) mask_ = arena.take<T>(4 * stride_);
  }

  // Writes row y of channel c of image k, times `scale`. Expansions of exposures are normalised by
  // their validity.
  void expand(const Stack& stack, int64_t k, int64_t c, int64_t y, double scale, T* out) {
    const bool masked = args_.validity.data && &stack != &args_.fused_coarse;
    if (args_.same_size) return copy_row(stack, k, c, y, scale, masked, out);
    const int64_t pairs = (block_.n + 1) / 2;
    const Between between(y, (args_.height + 1) / 2);
    if (!masked) {
      between_rows(stack, k, c, between, scale, between_);
      expand_row(between_ + 1, pairs, out);
      return;
    }
    // Pixels that are not valid enter neither side of the ratio.
    T* mask = mask_;
    T* expanded = mask_ + 2 * stride_;
    masked_between_rows(k, c, between, scale, between_, mask);
    expand_row(between_ + 1, pairs, out);
    expand_row(mask + 1, pairs, expanded);
    for (int64_t i = 0; i < block_.n; ++i) out[i] = expanded[i] > 0 ? out[i] / expanded[i] : T(0);
  }

 private:
  struct Part {
    int64_t row;
    double weight;
  };

  // Copies a row of a level that already has the size of the band.
  void copy_row(const Stack& stack, int64_t k, int64_t c, int64_t y, double scale, bool masked,
                T* out) {
    const T factor = static_cast<T>(scale);
    read(stack, offset_of(stack, block_.b, k, c, y, block_.x), stack.column, block_.n, out);
    for (int64_t i = 0; i < block_.n; ++i) out[i] *= factor;
    if (!masked) return;
    const Stack& validity = args_.coarse_validity;
    read(validity, offset_of(validity, block_.b, k, 0, y, block_.x), validity.column, block_.n,
         own_);
    for (int64_t i = 0; i < block_.n; ++i) out[i] = own_[i] > 0 ? out[i] : T(0);
  }

  // Interpolates between two rows of the next level, for the columns that the block needs.
  void between_rows(const Stack& stack, int64_t k, int64_t c, const Between& between, double scale,
                    T* out) {
    const int64_t width = (args_.width + 1) / 2, begin = block_.x / 2 - 1,
                  end = (block_.x + block_.n + 1) / 2 + 1;
    const int64_t first = most(0, begin), last = least(width, end);
    const int64_t own = offset_of(stack, block_.b, k, c, between.own, first);
    const int64_t other = offset_of(stack, block_.b, k, c, between.other, first);
    if (stack.column == 1) {
      combine(stack.dtype, address(stack, own), address(stack, other), static_cast<T>(scale),
              last - first, out + first - begin);
    } else {
      read(stack, own, stack.column, last - first, own_);
      read(stack, other, stack.column, last - first, other_);
      between_as<T>(own_, other_, static_cast<T>(scale), last - first, out + first - begin);
    }
    repeat_ends(out, begin, end, first, last);
  }

  // Computes out = (3 own + other) / 4 * scale.
  static void combine(DType dtype, const void* own, const void* other, T scale, int64_t n, T* out) {
    FASTMEF_FOR_STORAGE(dtype, between_as, own, other, scale, n, out)
  }

  // Interpolates between two rows, weighted by their validity, and fills the row of weights `mask`.
  void masked_between_rows(int64_t k, int64_t c, const Between& between, double scale, T* out,
                           T* mask) {
    const int64_t width = (args_.width + 1) / 2, begin = block_.x / 2 - 1,
                  end = (block_.x + block_.n + 1) / 2 + 1;
    const int64_t first = most(0, begin), last = least(width, end), n = last - first;
    for (int64_t i = 0; i < n; ++i) out[first - begin + i] = mask[first - begin + i] = 0;
    const Part both[2] = {{between.own, 0.75}, {between.other, 0.25}};
    for (const Part& part : both) {
      const Stack &images = args_.coarse, &validity = args_.coarse_validity;
      read(images, offset_of(images, block_.b, k, c, part.row, first), images.column, n, own_);
      read(validity, offset_of(validity, block_.b, k, 0, part.row, first), validity.column, n,
           other_);
      const T weight = static_cast<T>(part.weight);
      for (int64_t i = 0; i < n; ++i) {
        const T m = weight * other_[i];
        mask[first - begin + i] += m;
        if (m > 0) out[first - begin + i] += m * (static_cast<T>(scale) * own_[i]);
      }
    }
    repeat_ends(out, begin, end, first, last);
    repeat_ends(mask, begin, end, first, last);
  }

  const BandArgs& args_;
  const Block& block_;
  const int64_t stride_;
  T *between_, *own_, *other_, *mask_ = nullptr;
};

}  // namespace
}  // namespace fastmef
