// The images and taps of a sweep, and the part of it that one tile needs: its pixels, the padded
// positions that repeat them, and the windows that cover those.
#pragma once

#include "cpu/runtime/storage.h"
#include "cpu/window/axis.h"
#include "cpu/window/tiles.h"

namespace fastmef {
namespace {

// One image of a stack.
struct Pixels {
  const Stack* stack;
  int64_t offset;

  int64_t at(int64_t y, int64_t x) const { return offset + y * stack->row + x * stack->column; }
};

struct Sweep {
  Axis y, x;
  const double* taps_y;
  const double* taps_x;
  Tiles tiles;
  int images;       // the number of images that are swept together
  int maps;         // the number of derivatives w.r.t. window moments
  bool gradient;    // whether pixel gradients are wanted
  bool neighbours;  // whether the 3x3 pixels around a window's centre are read
};

class WindowTile {
 protected:
  explicit WindowTile(const Sweep& sweep) : sweep_(sweep) {
    lag_y_ = sweep.neighbours && sweep.y.window == 1;
    lag_x_ = sweep.neighbours && sweep.x.window == 1;
  }

  // Sets the ranges of a tile.
  void locate_tile(int64_t tile) {
    const Tiles& t = sweep_.tiles;
    const Axis &y = sweep_.y, &x = sweep_.x;
    batch_ = tile / (t.rows * t.columns);
    r0_ = tile / t.columns % t.rows * t.tile_rows;
    c0_ = tile % t.columns * t.tile_columns;
    r1_ = least(r0_ + t.tile_rows, y.size);
    c1_ = least(c0_ + t.tile_columns, x.size);
    if (sweep_.gradient) {
      h0_ = y.begin(r0_, r1_), h1_ = y.end(r0_, r1_);
      g0_ = x.begin(c0_, c1_), g1_ = x.end(c0_, c1_);
      a0_ = most(0, h0_ - y.window + 1 - lag_y_), a1_ = least(h1_ + lag_y_, y.windows());
      b0_ = most(0, g0_ - x.window + 1 - lag_x_), b1_ = least(g1_ + lag_x_, x.windows());
    } else {
      a0_ = r0_, a1_ = least(r1_, y.windows());
      b0_ = c0_, b1_ = least(c1_, x.windows());
    }
    windows_ = b1_ - b0_;
    inputs_ = windows_ + x.window - 1;
    lead_ = b0_ - (g0_ - x.window + 1);
  }

  // Returns whether row y of pixels, or of windows by their first row, belongs to the tile.
  bool owns(int64_t y) const { return y >= r0_ && y < r1_; }
  // In a row of windows from b0_ on, the tile owns `owned()` windows from first_owned() on.
  int64_t first_owned() const { return c0_ - b0_; }
  int64_t owned() const { return most(0, least(c1_, sweep_.x.windows()) - c0_); }

  // Returns the distance of rows in scratch memory: the widest tile with its halo, kLane values
  // before it, and the values that filters read beyond their last result.
  int64_t row_stride() const {
    const Axis& x = sweep_.x;
    return 2 * kLane + round_up(sweep_.tiles.tile_columns + 2 * x.pad() + 2 * x.window) +
           round_up(x.window);
  }

  const Sweep sweep_;
  int64_t batch_ = 0;
  int64_t r0_ = 0, r1_ = 0, c0_ = 0, c1_ = 0;  // the pixels and windows that the tile owns
  int64_t h0_ = 0, h1_ = 0, g0_ = 0, g1_ = 0;  // the padded positions that repeat its pixels
  int64_t a0_ = 0, a1_ = 0, b0_ = 0, b1_ = 0;  // the windows that are computed
  int64_t windows_ = 0, inputs_ = 0;           // windows, and pixels under them, in a row
  int64_t lag_y_ = 0, lag_x_ = 0, lead_ = 0;
};

}  // namespace
}  // namespace fastmef
