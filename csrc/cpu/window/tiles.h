// The division of a stack of images among tasks. It depends on the shape only, so that sums are
// formed in the same order for any number of threads.
#pragma once

#include "cpu/runtime/lanes.h"

namespace fastmef {
namespace {

struct Tiles {
  // With this width the rows of two images under a window fit the first-level cache.
  static constexpr int64_t kColumns = 256;
  static constexpr int64_t kRows = 128;   // halo rows are computed twice
  static constexpr int64_t kWanted = 64;  // tiles: enough for many threads

  int64_t tile_rows, tile_columns, rows, columns, count;

  Tiles(int64_t batch, int64_t height, int64_t width, int64_t widest = kColumns) {
    columns = (width + widest - 1) / widest;
    tile_columns = round_up((width + columns - 1) / columns);
    columns = (width + tile_columns - 1) / tile_columns;
    const int64_t wanted = (kWanted + batch * columns - 1) / (batch * columns);
    rows = most(1, least(wanted, (height + kRows / 2) / kRows));
    tile_rows = (height + rows - 1) / rows;
    rows = (height + tile_rows - 1) / tile_rows;
    count = batch * rows * columns;
  }
};

}  // namespace
}  // namespace fastmef
