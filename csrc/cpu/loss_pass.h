// The division of a level into tiles, and what its tiles share.
#pragma once

#include "filter_rows.h"
#include "loss.h"
#include "loss_split.h"

namespace fastmef {
namespace {

constexpr int64_t kTileColumns =
    256;                            // rings of two exposures then stay near the first-level cache
constexpr int64_t kTileRows = 128;  // halo rows are computed twice: 8 % of the work at this height
constexpr int64_t kTiles = 64;      // enough for many threads; strips are not cut further

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }

// The division of the work. It depends on the shape alone, so sums are formed in the same order for
// any number of threads.
struct Grid {
  int64_t tile_rows, tile_columns, rows, columns, count;

  Grid(int64_t batch, const Level& level) {
    columns = (level.width + kTileColumns - 1) / kTileColumns;
    tile_columns = round_up((level.width + columns - 1) / columns);
    columns = (level.width + tile_columns - 1) / tile_columns;
    const int64_t wanted = (kTiles + batch * columns - 1) / (batch * columns);
    rows = most(1, least(wanted, (level.height + kTileRows / 2) / kTileRows));
    tile_rows = (level.height + rows - 1) / rows;
    rows = (level.height + tile_rows - 1) / tile_rows;
    count = batch * rows * columns;
  }
};

// Everything the tiles of one level share.
struct Pass {
  const LossArgs& args;
  int index;  // of the level
  const Level& level;
  Grid grid;
  bool with_gradient;
  bool accumulate;   // add to the gradient instead of writing it
  bool defer;        // leave dL/dF in the first plane of the logits' gradient
  Low low;           // of the gradient, where it is split
  double scale;      // dL / d(sum of weighted quality)
  double* partials;  // one sum a tile

  int count() const { return static_cast<int>(args.exposures_count); }
  const Level& base() const { return args.levels[0]; }

  // Does the sweep itself write dL/dlogits?
  bool writes_logits() const { return args.logits.data && index == 0 && !defer; }

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
    const Grid& grid = pass.grid;
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
    pixels = c1 - c0;
    windows = b1 - b0;
    inputs = windows + level.wx - 1;
  }
};

}  // namespace
}  // namespace fastmef
