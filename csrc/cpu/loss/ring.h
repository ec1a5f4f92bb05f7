// The last rows of F and the exposures, minus a constant of the tile, and the weights of the
// logits.
#pragma once

#include <string.h>

#include "cpu/loss/rows.h"
#include "cpu/window/taps.h"

namespace fastmef {
namespace {

template <class T>
class Ring {
 public:
  Ring(const Pass& pass, const Extent& extent, Arena& arena) : pass_(pass), extent_(extent) {
    const int count = pass.count();
    slots_ = pass.level.wy + kBlock + 1;  // and the Sobel rows beside a window of one row
    stride_ = pass.stride();
    planes_ = arena.take<T>(slots_ * (count + 1) * stride_);
    weights_ = pass.writes_logits() && pass.with_gradient ? arena.take<T>(slots_ * count * stride_)
                                                          : nullptr;
    shifts_ = arena.take<T>(count + 1);
  }

  // Row y of a plane (0 is F, k + 1 exposure k), from the first window's first pixel on.
  T* row(int64_t y, int plane) const {
    return planes_ + ((y % slots_) * (pass_.count() + 1) + plane) * stride_ + kLane;
  }
  T* weights(int64_t y, int k) const {
    return weights_ + ((y % slots_) * pass_.count() + k) * stride_ + kLane;
  }
  T shift(int plane) const { return shifts_[plane]; }

  // Padding is read as zero.
  void clear(Rows<T>& rows) {
    memset(planes_, 0, sizeof(T) * slots_ * (pass_.count() + 1) * stride_);
    rows.sample_means(extent_, shifts_);
  }

  // Brings row y of the level in.
  void load(Rows<T>& rows, int64_t y) {
    const int count = pass_.count();
    const int64_t begin = most(extent_.b0 - 1, 0);
    const int64_t end = least(extent_.b0 + extent_.inputs + 1, pass_.level.width);
    if (pass_.index > 0) {
      rows.read_level(y, begin, end);
      for (int plane = 0; plane <= count; ++plane) {
        store(y, plane, rows.level_row(plane), begin, end);
      }
      return;
    }
    for (int k = 0; k < count; ++k) {
      rows.put_weights(k, weights_ ? weights(y, k) + begin - extent_.b0 : nullptr);
    }
    store(y, 0, rows.full_row(y, begin, end - begin), begin, end);
    for (int k = 0; k < count; ++k) store(y, k + 1, rows.exposure(k), begin, end);
  }

 private:
  void store(int64_t y, int plane, const T* FASTMEF_RESTRICT in, int64_t begin, int64_t end) {
    T* out = row(y, plane);
    T* FASTMEF_RESTRICT to = out + (begin - extent_.b0);
    const T shift = shifts_[plane];
    const int64_t n = end - begin;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) to[x] = in[x] - shift;
    // Edges are repeated for the Sobel gradient.
    if (extent_.b0 == 0) out[-1] = out[0];
    if (extent_.b0 + extent_.inputs >= pass_.level.width) {
      out[extent_.inputs] = out[extent_.inputs - 1];
    }
  }

  const Pass& pass_;
  const Extent& extent_;
  int64_t slots_, stride_;
  T *planes_, *weights_, *shifts_;
};

}  // namespace
}  // namespace fastmef
