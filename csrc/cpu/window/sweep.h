// The window engine: a sweep down a tile of images that reads rows of pixels and computes window
// values or pixel gradients.
//
// A ring buffer keeps the rows under the windows, minus a constant of the tile. New rows complete a
// block of up to kBlock rows of windows, for which the operation `Op` computes values and
// derivatives w.r.t. the windows' moments. The derivatives are filtered along the row into a second
// ring buffer; filtering its rows down the columns gives the gradient of the pixel row that leaves
// the first ring buffer. Gradients of reflected pixels are added to the pixels themselves. So every
// input is read once, the gradient is written once, and nothing else leaves the cache.
//
// Op derives from WindowSweep<T, Op>. It has the functions
//   void carve_more(Arena&)   which allocates its scratch memory,
//   void windows(int64_t y)   which computes values, and rows derivative(m), of window row y,
// and functions that hide those of the defaults below that are not sufficient.
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
    stride_ = row_stride();
    ring_ = arena.take<T>(ring_slots() * s.images * stride_);
    down_ = arena.take<T>(kDown * kBlock * stride_);
    taps_ = Taps<T>(s.y.window, s.x.window, arena);
    shifts_ = arena.take<T>(s.images);
    samples_ = arena.take<T>(s.images);
    sample_sums_ = arena.take<double>(s.images);
    sample_counts_ = arena.take<int64_t>(s.images);
    sums_ = arena.take<double>(stride_);
    rows_a_ = arena.take<const T*>(s.y.window + kBlock - 1);
    rows_b_ = arena.take<const T*>(s.y.window + kBlock - 1);
    if (s.gradient) {
      derivatives_ = arena.take<T>(s.maps * stride_);
      filtered_ = arena.take<T>(filtered_slots() * s.maps * stride_);
      gathered_ = arena.take<T>(s.maps * kBlock * stride_);
      line_ = arena.take<T>(stride_);
      mirrored_ = arena.take<T>(2 * s.y.pad() * s.images * stride_);
    }
    self().carve_more(arena);
  }

  void run(int64_t tile) {
    locate_tile(tile);
    memset(sums_, 0, sizeof(double) * stride_);
    if (windows_ <= 0 || a1_ <= a0_) return;
    choose_shifts();
    clear();
    int64_t next = most(0, a0_ - lag_y_);
    const int64_t last = sweep_.gradient ? h1_ + lag_y_ : a1_;
    for (int64_t y = a0_; y < last; y += kBlock) {
      const int64_t end = least(y + kBlock, last), above = least(end, a1_);
      if (y < above) {
        const int64_t needed = least(above + sweep_.y.window - 2 + lag_y_, sweep_.y.padded() - 1);
        for (; next <= needed; ++next) load(next);
        self().filter(y, static_cast<int>(above - y));
      }
      for (int64_t row = y; row < end; ++row) {
        row < above ? self().windows(row) : self().no_windows(row);
        if (sweep_.gradient) filter_derivatives(row, row < above);
      }
      if (sweep_.gradient) emit(most(y - lag_y_, h0_), end - lag_y_);
    }
  }

 protected:
  explicit WindowSweep(const Sweep& sweep) : WindowTile(sweep) {}

  // Functions that an operation may hide.

  void clear_more() {}
  // Computes moments of the windows that begin in the rows [y, y + rows); windows() follows.
  void filter(int64_t y, int rows) { (void)y, (void)rows; }
  // Called instead of windows() for rows below the last windows, in sweeps for gradients.
  void no_windows(int64_t y) { (void)y; }
  // Return image p and the array for its gradient.
  Pixels image(int p) const { return (void)p, Pixels{}; }
  Pixels target(int p) const { return (void)p, Pixels{nullptr, 0}; }
  bool wants_gradient(int p) {
    const Pixels target = self().target(p);
    return target.stack && target.stack->data;
  }
  // Computes the gradient of image p in the padded row g, from column g0_ on.
  void combine(int64_t g, int p, T* out) { (void)g, (void)p, (void)out; }
  // Reads the values of all images at a pixel.
  void sample(int64_t y, int64_t x, T* values) {
    for (int p = 0; p < sweep_.images; ++p) {
      const Pixels image = self().image(p);
      read(*image.stack, image.at(y, x), 1, 1, values + p);
    }
  }
  // Returns columns [begin, end) of row y, in `buffer` or elsewhere. It is called for all images in
  // their order.
  const T* image_row(int p, int64_t y, int64_t begin, int64_t end, T* buffer) {
    const Pixels image = self().image(p);
    return dense_row(*image.stack, image.at(y, begin), end - begin, buffer);
  }
  // Stores the gradient of the tile's pixels in row y.
  void store(int p, int64_t y, T* row) {
    const Pixels target = self().target(p);
    write(*target.stack, target.at(y, c0_), target.stack->column, c1_ - c0_, row);
  }

  // Functions that an operation may use.

  // Rows of pixels: index i is padded column b0_ + i, from -1 to inputs_.
  T* pixel_row(T* rows, int64_t index) const { return rows + index * stride_ + kLane; }
  int64_t ring_slots() const { return sweep_.y.window + kBlock + 1; }
  T* ring(int64_t row, int p) const {
    return pixel_row(ring_, row % ring_slots() * sweep_.images + p);
  }
  // Rows of derivatives: index i is window b0_ + i.
  T* derivative(int m) const { return derivatives_ + m * stride_ + kLane + lead_; }
  // Rows of gradients, of the padded row that combine() is called for: index i is padded column
  // g0_ + i.
  const T* gathered(int m) const { return gathered_ + (m * kBlock + gathered_row_) * stride_; }

  // Chooses a constant near the values of each image in the tile, the mean of a coarse sample.
  // Without it E[x^2] - E[x]^2 would lose precision by cancellation. Values that are not finite are
  // ignored: they would make the whole tile NaN, not only the windows that contain them.
  void choose_shifts() {
    const int64_t step_y = most(1, (r1_ - r0_) / 8), step_x = most(1, (c1_ - c0_) / 8);
    for (int p = 0; p < sweep_.images; ++p) sample_sums_[p] = 0.0, sample_counts_[p] = 0;
    for (int64_t y = r0_; y < r1_; y += step_y) {
      for (int64_t x = c0_; x < c1_; x += step_x) {
        self().sample(y, x, samples_);
        for (int p = 0; p < sweep_.images; ++p) {
          if (samples_[p] - samples_[p] != 0) continue;
          sample_sums_[p] += static_cast<double>(samples_[p]);
          ++sample_counts_[p];
        }
      }
    }
    for (int p = 0; p < sweep_.images; ++p) {
      const int64_t count = sample_counts_[p];
      shifts_[p] = static_cast<T>(count ? sample_sums_[p] / static_cast<double>(count) : 0.0);
    }
  }

  // Reads a padded row into the ring buffer.
  void load(int64_t row) {
    const Axis& axis = sweep_.x;
    const int64_t y = sweep_.y.source(row);
    const int64_t begin = most(b0_ - 1 - axis.pad(), 0);
    const int64_t end = least(b0_ + inputs_ + 1 - axis.pad(), axis.size);
    const int64_t i0 = begin + axis.pad() - b0_, i1 = end + axis.pad() - b0_;
    for (int p = 0; p < sweep_.images; ++p) {
      T* out = ring(row, p);
      const T shift = shifts_[p];
      if (y < 0) {
        for (int64_t i = -1; i <= inputs_; ++i) out[i] = -shift;
        continue;
      }
      const T* in = self().image_row(p, y, begin, end, out + i0);
      T* to = out + i0;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < i1 - i0; ++i) to[i] = in[i] - shift;
      extend(out, -1, i0, i0, shift);
      extend(out, i1, inputs_ + 1, i1 - 1, shift);
    }
  }

  // Filters a row along its columns.
  void filter_along(const T* in, T* out) const { taps_.along(in, windows_, out); }

  // Computes E[x] and E[x^2] of image p in the windows of `rows` rows from y on. Row r of each
  // result begins at r * stride_.
  void moments(int64_t y, int rows, int p, T* mean, T* second_moment) {
    find_rows(y, rows, p, rows_a_);
    taps_.moments(rows_a_, rows, inputs_, stride_, down(0), down(1));
    filter_block(0, rows, mean);
    filter_block(1, rows, second_moment);
  }

  // Computes the window means of `rows` rows of windows; `in` lists the rows of values under them.
  void window_means(const T* const* in, int rows, T* out) const {
    taps_.down(in, rows, inputs_, stride_, down(0));
    filter_block(0, rows, out);
  }

  // Computes E[x], E[x^2] and E[x a] of the images p and a.
  void cross_moments(int64_t y, int rows, int a, int p, T* mean, T* second_moment, T* cross) {
    find_rows(y, rows, a, rows_a_);
    find_rows(y, rows, p, rows_b_);
    taps_.cross_moments(rows_a_, rows_b_, rows, inputs_, stride_, down(0), down(1), down(2));
    filter_block(0, rows, mean);
    filter_block(1, rows, second_moment);
    filter_block(2, rows, cross);
  }

  // Computes E[a], E[b], E[a^2 + b^2] and E[a b] of the images 0 and 1.
  void pair_moments(int64_t y, int rows, T* const* out) {
    find_rows(y, rows, 0, rows_a_);
    find_rows(y, rows, 1, rows_b_);
    taps_.moments(rows_a_, rows, inputs_, stride_, down(0), down(2));
    taps_.cross_moments(rows_a_, rows_b_, rows, inputs_, stride_, down(1), down(4), down(3));
    T* FASTMEF_RESTRICT sum = down(2);
    const T* FASTMEF_RESTRICT other = down(4);
    const int64_t n = rows * stride_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) sum[x] += other[x];
    for (int m = 0; m < 4; ++m) filter_block(m, rows, out[m]);
  }

  // Adds the values of a row of windows to the sums of columns.
  void add_to_sum(const T* values) {
    double* FASTMEF_RESTRICT sums = sums_;
    const T* FASTMEF_RESTRICT value = values;
    const int64_t n = round_up(windows_);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) sums[x] += value[x];
  }
  // Returns the sum of the values that were added, over the windows that the tile owns.
  double sum() const {
    double sum = 0.0;
    for (int64_t x = first_owned(); x < first_owned() + owned(); ++x) sum += sums_[x];
    return sum;
  }

  int64_t stride_ = 0;
  T* shifts_ = nullptr;

 private:
  static constexpr int kDown = 5;  // blocks of rows that pair_moments() needs

  Op& self() { return static_cast<Op&>(*this); }

  int64_t filtered_slots() const { return sweep_.y.window + kBlock; }
  T* down(int index) const { return down_ + index * kBlock * stride_; }

  // Lists the rows of pixels under `rows` rows of windows from y on.
  void find_rows(int64_t y, int rows, int p, const T** out) const {
    for (int j = 0; j < sweep_.y.window + rows - 1; ++j) out[j] = ring(y + j, p);
  }

  // Filters a block of rows, which were filtered down the columns, along the rows.
  void filter_block(int index, int rows, T* out) const {
    for (int r = 0; r < rows; ++r) filter_along(down(index) + r * stride_, out + r * stride_);
  }

  // Clears the buffers whose padding is read as zero.
  void clear() {
    const Sweep& s = sweep_;
    memset(ring_, 0, sizeof(T) * ring_slots() * s.images * stride_);
    memset(down_, 0, sizeof(T) * kDown * kBlock * stride_);
    taps_.fill(s.taps_y, s.taps_x);
    if (s.gradient) {
      memset(derivatives_, 0, sizeof(T) * s.maps * stride_);
      memset(filtered_, 0, sizeof(T) * filtered_slots() * s.maps * stride_);
    }
    self().clear_more();
  }

  // Fills columns [from, to) beside the image; outside the padding the nearest column is repeated.
  void extend(T* out, int64_t from, int64_t to, int64_t nearest, T shift) {
    const Axis& axis = sweep_.x;
    for (int64_t i = from; i < to; ++i) {
      const int64_t position = b0_ + i;
      const bool padding = position >= 0 && position < axis.padded();
      const int64_t x = padding ? axis.source(position) : nearest + b0_ - axis.pad();
      out[i] = x < 0 ? -shift : out[x + axis.pad() - b0_];
    }
  }

  // Returns a row of the second ring buffer.
  T* filtered(int64_t y, int m) const {
    const int64_t slots = filtered_slots();
    return filtered_ + ((y + slots) % slots * sweep_.maps + m) * stride_;
  }

  // Filters the derivatives of window row y along the row; beyond the windows they are zero.
  void filter_derivatives(int64_t y, bool has_windows) {
    for (int m = 0; m < sweep_.maps; ++m) {
      T* out = filtered(y, m);
      if (!has_windows) {
        memset(out, 0, sizeof(T) * stride_);
        continue;
      }
      T* row = derivative(m);
      memset(row + windows_, 0, sizeof(T) * (stride_ - kLane - lead_ - windows_));
      taps_.along(derivatives_ + m * stride_ + kLane, g1_ - g0_, out);
    }
  }

  // Computes and stores the gradients of the padded rows [begin, end), at most kBlock, from the
  // window rows that cover them.
  void emit(int64_t begin, int64_t end) {
    if (begin >= end) return;
    const int rows = static_cast<int>(end - begin);
    for (int m = 0; m < sweep_.maps; ++m) {
      // The taps are symmetric, so the rows may be listed from the last to the first.
      for (int j = 0; j < sweep_.y.window + rows - 1; ++j) rows_a_[j] = filtered(end - 1 - j, m);
      taps_.down(rows_a_, rows, g1_ - g0_, stride_, gathered_ + m * kBlock * stride_);
    }
    for (int64_t g = begin; g < end; ++g) {
      const int64_t y = sweep_.y.source(g);
      if (!owns(y)) continue;
      gathered_row_ = end - 1 - g;
      for (int p = 0; p < sweep_.images; ++p) {
        if (!self().wants_gradient(p)) continue;
        self().combine(g, p, line_);
        reflect_columns_backward();
        T* own = line_ + c0_ + sweep_.x.pad() - g0_;
        if (reflect_row_backward(g, y, p, own)) self().store(p, y, own);
      }
    }
  }

  // Adds the gradients of reflected columns to those of the tile's pixels.
  void reflect_columns_backward() {
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

  // Adds up the gradients of the padded rows that repeat pixel row y. Returns true when the last of
  // them was added, and `row` is the sum.
  bool reflect_row_backward(int64_t g, int64_t y, int p, T* row) {
    const Axis& axis = sweep_.y;
    const int64_t first = axis.first(y), last = axis.last(y);
    if (first == last) return true;
    const int64_t pad = axis.pad();
    const int64_t slot = y <= pad ? y - 1 : 2 * pad + y - axis.size + 1;
    T* sum = mirrored_ + (slot * sweep_.images + p) * stride_;
    for (int64_t x = 0; x < c1_ - c0_; ++x) {
      if (g != first) row[x] += sum[x];
      sum[x] = row[x];
    }
    return g == last;
  }

  Taps<T> taps_;
  T *ring_ = nullptr, *down_ = nullptr;
  T* samples_ = nullptr;
  T *derivatives_ = nullptr, *filtered_ = nullptr, *gathered_ = nullptr;
  T *line_ = nullptr, *mirrored_ = nullptr;
  double *sample_sums_ = nullptr, *sums_ = nullptr;
  int64_t* sample_counts_ = nullptr;
  int64_t gathered_row_ = 0;
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
