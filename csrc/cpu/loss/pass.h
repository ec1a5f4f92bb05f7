// What the tiles of a level share, and the extent of each.
#pragma once

#include "cpu/loss/loss.h"
#include "cpu/loss/sums.h"
#include "cpu/window/tiles.h"

namespace fastmef {
namespace {

// Everything the tiles of one level share.
struct Pass {
  const LossArgs& args;
  int index;  // of the level
  const Level& level;
  Tiles grid;
  bool with_gradient;
  const Sums* sums;  // of the coarser levels' gradients; null where the finest one is alone
  bool accumulate;   // add to the sums instead of writing them
  double scale;      // dL / d(sum of weighted quality)
  double* partials;  // one sum a tile

  int count() const { return static_cast<int>(args.exposures_count); }
  const Level& base() const { return args.levels[0]; }

  // Does the sweep itself write dL/dlogits?
  bool writes_logits() const { return args.logits.data && index == 0; }

  // The distance of rows in scratch memory: room for the widest tile with its halo and padding.
  int64_t stride() const {
    return round_up(grid.tile_columns + 2 * (level.wx - 1)) + round_up(level.wx) + 2 * kLane;
  }
};

// One tile: its pixels, and the windows (named by their first pixel) that it needs.
struct Extent {
  int64_t batch;
  int64_t r0, r1, c0, c1;           // pixels
  int64_t a0, a1, b0, b1;           // windows
  int64_t pixels, windows, inputs;  // in a row: pixels, windows, pixels under the windows

  Extent(const Pass& pass, int64_t tile) {
    const Level& level = pass.level;
    const Tiles& grid = pass.grid;
    batch = tile / (grid.rows * grid.columns);
    r0 = tile / grid.columns % grid.rows * grid.tile_rows;
    c0 = tile % grid.columns * grid.tile_columns;
    r1 = least(r0 + grid.tile_rows, level.height);
    c1 = least(c0 + grid.tile_columns, level.width);
    // The gradient of the tile's pixels needs the windows that begin up to a window earlier.
    a0 = pass.with_gradient ? most(0, r0 - level.wy + 1) : r0;
    b0 = pass.with_gradient ? most(0, c0 - level.wx + 1) : c0;
    a1 = least(r1, level.height - level.wy + 1);
    b1 = least(c1, level.width - level.wx + 1);
    if (level.share == 0) a0 = a1 = r0;  // only turns the coarser levels' sums into the gradient
    pixels = c1 - c0;
    windows = b1 - b0;
    inputs = windows + level.wx - 1;
  }
};

}  // namespace
}  // namespace fastmef
