// A sweep down a tile of images: windows of rows come in, window values or pixel gradients go out.
//
// A ring keeps the rows under the window, minus a constant of the tile. Each new row completes a
// row of windows, of which the operation `Op` makes values and derivatives by the window's moments.
// The derivatives are filtered along the row into a second ring, and a window of its rows makes the
// gradient of the pixel row that leaves the first ring. Pixels mirrored beyond the border give
// their gradient back to their originals.
//
// Op derives from WindowSweep<T, Op> and has
//   Pixels image(int p)                     the images,
//   Pixels target(int p)                    and where their gradients go (data null: unwanted)
//   void windows(int64_t y)                 values, and rows derivative(m), of window row y
//   void no_windows(int64_t y)              rows below the last windows, for gradients
//   void combine(int64_t g, int p, T* out)  gradients of the padded row g from column g0_ on
#pragma once

#include <string.h>

#include "cpu/runtime/arena.h"
#include "cpu/runtime/parallel.h"
#include "cpu/window/taps.h"
#include "cpu/window/tile.h"

namespace fastmef {
namespace {

template <class T, class Op>
class WindowSweep : public WindowTile {
 public:
  void carve(Arena& arena) {
    const Sweep& s = sweep_;
    // For the largest tile of the pass.
    stride_ = round_up(s.tiles.tile_columns + 4 * s.x.pad() + 3 * s.x.window) +
              round_up(s.x.window) + 4 * kLane;
    ring_ = arena.take<T>((s.y.window + 2) * s.images * stride_);
    down_ = arena.take<T>(4 * stride_);
    taps_ = Taps<T>(s.y.window, s.x.window, arena);
    shifts_ = arena.take<T>(s.images);
    rows_a_ = arena.take<const T*>(s.y.window);
    rows_b_ = arena.take<const T*>(s.y.window);
    if (s.gradient) {
      derivatives_ = arena.take<T>(s.maps * stride_);
      spread_ = arena.take<T>((s.y.window + 1) * s.maps * stride_);
      gathered_ = arena.take<T>(s.maps * stride_);
      line_ = arena.take<T>(stride_);
      folded_ = arena.take<T>(2 * s.y.pad() * s.images * stride_);
    }
    self().carve_more(arena);
  }

  void run(int64_t tile) {
    place(tile);
    if (windows_ <= 0 || a1_ <= a0_) return;
    choose_shifts();
    clear();
    int64_t next = most(0, a0_ - lag_y_);
    const int64_t last = sweep_.gradient ? h1_ + lag_y_ : a1_;
    for (int64_t y = a0_; y < last; ++y) {
      if (y < a1_) {
        const int64_t needed = least(y + sweep_.y.window - 1 + lag_y_, sweep_.y.padded() - 1);
        for (; next <= needed; ++next) load(next);
        self().windows(y);
      } else {
        self().no_windows(y);
      }
      if (!sweep_.gradient) continue;
      spread_along(y, y < a1_);
      if (y - lag_y_ >= h0_) emit(y - lag_y_);
    }
  }

 protected:
  explicit WindowSweep(const Sweep& sweep) : WindowTile(sweep) {}

  // Rows of pixels: index i is padded column b0_ + i, from -1 to inputs_.
  T* pixel_row(T* rows, int64_t index) const { return rows + index * stride_ + kLane; }
  T* ring(int64_t row, int p) const {
    return pixel_row(ring_, row % (sweep_.y.window + 2) * sweep_.images + p);
  }
  // Rows of derivatives: index i is window b0_ + i.
  T* derivative(int m) const { return derivatives_ + m * stride_ + kLane + lead_; }
  // Rows of gradients: index i is padded column g0_ + i.
  const T* gathered(int m) const { return gathered_ + m * stride_; }

  void filter_along(const T* in, int64_t n, T* out) const { taps_.along(in, n, out); }

  // E[x], E[x^2] of image p in the windows of row y.
  void moments(int64_t y, int p, T* mean, T* power) {
    for (int j = 0; j < sweep_.y.window; ++j) rows_a_[j] = ring(y + j, p);
    taps_.moments(rows_a_, 1, inputs_, stride_, down_, down_ + stride_);
    filter_along(down_, windows_, mean);
    filter_along(down_ + stride_, windows_, power);
  }

  // E[a], E[b], E[a^2 + b^2], E[a b] of images 0 and 1.
  void pair_moments(int64_t y, T* const* out) {
    for (int j = 0; j < sweep_.y.window; ++j) {
      rows_a_[j] = ring(y + j, 0), rows_b_[j] = ring(y + j, 1);
    }
    T* const down[4] = {down_, down_ + stride_, down_ + 2 * stride_, down_ + 3 * stride_};
    taps_.pair_moments(rows_a_, rows_b_, inputs_, down);
    for (int m = 0; m < 4; ++m) filter_along(down[m], windows_, out[m]);
  }

  int64_t stride_ = 0;
  T* shifts_ = nullptr;

 private:
  Op& self() { return static_cast<Op&>(*this); }

  // Buffers whose padding is read as zero.
  void clear() {
    const Sweep& s = sweep_;
    memset(ring_, 0, sizeof(T) * (s.y.window + 2) * s.images * stride_);
    memset(down_, 0, sizeof(T) * 4 * stride_);
    taps_.fill(s.taps_y, s.taps_x);
    if (s.gradient) {
      memset(derivatives_, 0, sizeof(T) * s.maps * stride_);
      memset(spread_, 0, sizeof(T) * (s.y.window + 1) * s.maps * stride_);
    }
    self().clear_more();
  }

  // A constant near the values of the tile, from a coarse sample: subtracting it keeps E[x^2] -
  // E[x]^2 from cancelling. Values that are not finite would spoil the whole tile.
  void choose_shifts() {
    const int64_t step_y = most(1, (r1_ - r0_) / 8), step_x = most(1, (c1_ - c0_) / 8);
    for (int p = 0; p < sweep_.images; ++p) {
      const Pixels image = self().image(p);
      double sum = 0.0;
      int64_t samples = 0;
      for (int64_t y = r0_; y < r1_; y += step_y) {
        for (int64_t x = c0_; x < c1_; x += step_x) {
          T value = 0;
          read(*image.stack, image.at(y, x), 1, 1, &value);
          if (value - value != 0) continue;
          sum += static_cast<double>(value);
          ++samples;
        }
      }
      shifts_[p] = static_cast<T>(samples ? sum / static_cast<double>(samples) : 0.0);
    }
  }

  // Brings the padded row into the ring.
  void load(int64_t row) {
    const Axis& axis = sweep_.x;
    const int64_t y = sweep_.y.source(row);
    for (int p = 0; p < sweep_.images; ++p) {
      T* FASTMEF_RESTRICT out = ring(row, p);
      const T shift = shifts_[p];
      if (y < 0) {
        for (int64_t i = -1; i <= inputs_; ++i) out[i] = -shift;
        continue;
      }
      const Pixels image = self().image(p);
      const int64_t begin = most(b0_ - 1 - axis.pad(), 0);
      const int64_t end = least(b0_ + inputs_ + 1 - axis.pad(), axis.size);
      const int64_t i0 = begin + axis.pad() - b0_, i1 = end + axis.pad() - b0_;
      read(*image.stack, image.at(y, begin), image.stack->column, end - begin, out + i0);
      FASTMEF_VECTORIZE
      for (int64_t i = i0; i < i1; ++i) out[i] -= shift;
      extend(out, -1, i0, i0, shift);
      extend(out, i1, inputs_ + 1, i1 - 1, shift);
    }
  }

  // Columns [from, to) beside the image; the image's nearest is repeated outside the padding.
  void extend(T* out, int64_t from, int64_t to, int64_t nearest, T shift) {
    const Axis& axis = sweep_.x;
    for (int64_t i = from; i < to; ++i) {
      const int64_t position = b0_ + i;
      const bool padding = position >= 0 && position < axis.padded();
      const int64_t x = padding ? axis.source(position) : nearest + b0_ - axis.pad();
      out[i] = x < 0 ? -shift : out[x + axis.pad() - b0_];
    }
  }

  T* spread(int64_t y, int m) const {
    const int64_t slots = sweep_.y.window + 1;
    return spread_ + ((y + slots) % slots * sweep_.maps + m) * stride_;
  }

  // Filters the derivatives of window row y along the row; beyond the windows they are zero.
  void spread_along(int64_t y, bool has_windows) {
    for (int m = 0; m < sweep_.maps; ++m) {
      T* out = spread(y, m);
      if (!has_windows) {
        memset(out, 0, sizeof(T) * stride_);
        continue;
      }
      T* row = derivative(m);
      memset(row + windows_, 0, sizeof(T) * (stride_ - kLane - lead_ - windows_));
      filter_along(derivatives_ + m * stride_ + kLane, g1_ - g0_, out);
    }
  }

  // The gradient of the padded row g, from the window rows that cover it.
  void emit(int64_t g) {
    const Axis &rows = sweep_.y, &columns = sweep_.x;
    const int64_t y = rows.source(g);
    if (!owns(y)) return;
    for (int m = 0; m < sweep_.maps; ++m) {
      for (int j = 0; j < rows.window; ++j) rows_a_[j] = spread(g - j, m);
      taps_.down(rows_a_, 1, g1_ - g0_, stride_, gathered_ + m * stride_);
    }
    for (int p = 0; p < sweep_.images; ++p) {
      const Pixels target = self().target(p);
      if (!target.stack->data) continue;
      self().combine(g, p, line_);
      fold_columns();
      T* own = line_ + c0_ + columns.pad() - g0_;
      if (!fold_row(g, y, p, own)) continue;
      write(*target.stack, target.at(y, c0_), target.stack->column, c1_ - c0_, own);
    }
  }

  // Adds to the tile's pixels what their mirror images beyond the columns got.
  void fold_columns() {
    const Axis& axis = sweep_.x;
    if (axis.border != kReflect) return;
    const int64_t base = axis.pad() - g0_;
    for (int64_t x = c0_; x < c1_; ++x) {
      const int64_t direct = x + axis.pad();
      T* pixel = line_ + x + base;
      if (axis.first(x) != direct) *pixel += line_[axis.first(x) - g0_];
      if (axis.last(x) != direct) *pixel += line_[axis.last(x) - g0_];
    }
  }

  // Gathers the rows that show pixel row y; true when the last of them has made `row` complete.
  bool fold_row(int64_t g, int64_t y, int p, T* row) {
    const Axis& axis = sweep_.y;
    const int64_t first = axis.first(y), last = axis.last(y);
    if (first == last) return true;
    const int64_t pad = axis.pad();
    const int64_t slot = y <= pad ? y - 1 : 2 * pad + y - axis.size + 1;
    T* sum = folded_ + (slot * sweep_.images + p) * stride_;
    for (int64_t x = 0; x < c1_ - c0_; ++x) {
      if (g != first) row[x] += sum[x];
      sum[x] = row[x];
    }
    return g == last;
  }

  Taps<T> taps_;
  T *ring_ = nullptr, *down_ = nullptr;
  T *derivatives_ = nullptr, *spread_ = nullptr, *gathered_ = nullptr;
  T *line_ = nullptr, *folded_ = nullptr;
  const T **rows_a_ = nullptr, **rows_b_ = nullptr;
};

// Runs Op(pass) over all tiles of pass.sweep.
template <class Op, class Pass>
void sweep_tiles(const Pass& pass, int threads) {
  Arena counting(nullptr);
  Op(pass).carve(counting);
  const Task task = [](void* context, int64_t tile, void* scratch) {
    Op op(*static_cast<const Pass*>(context));
    Arena arena(scratch);
    op.carve(arena);
    op.run(tile);
  };
  parallel_for(pass.sweep.tiles.count, threads, counting.used(), task, const_cast<Pass*>(&pass));
}

}  // namespace
}  // namespace fastmef
