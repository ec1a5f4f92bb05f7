// What the tiles of a level share.
#pragma once

#include "cpu/loss/loss.h"
#include "cpu/window/tile.h"

namespace fastmef {
namespace {

// dL/dF of the coarser levels, on the grid of the first of them: (B, height, width).
template <class T>
struct CoarseGradient {
  T* data;  // null where the finest level is alone
  int64_t height, width;

  T* row(int64_t b, int64_t y, int64_t x) const { return data + (b * height + y) * width + x; }
};

template <class T>
struct LossPass {
  const LossArgs& args;
  int index;  // of the level
  const Level& level;
  Sweep sweep;
  CoarseGradient<T> coarse;
  double scale;      // dL / d(sum of weighted quality)
  double* partials;  // one sum a tile

  int count() const { return static_cast<int>(args.exposures_count); }
  const Level& base() const { return args.levels[0]; }

  // Does the sweep itself write dL/dlogits?
  bool writes_logits() const { return args.logits.data && index == 0 && sweep.gradient; }

  // Columns of the level that a tile reads or writes, at most.
  int64_t widest() const { return sweep.tiles.tile_columns + 2 * level.wx + 2; }
};

}  // namespace
}  // namespace fastmef
