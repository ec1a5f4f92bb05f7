// The arguments of the sweep of one level.
#pragma once

#include "cpu/loss/loss.h"
#include "cpu/window/tile.h"

namespace fastmef {
namespace {

// dL/dF of all coarser levels, summed on the grid of level 1: (B, height, width).
template <class T>
struct CoarseGradient {
  T* data;  // null if there is only the finest level
  int64_t height, width;

  T* row(int64_t b, int64_t y, int64_t x) const { return data + (b * height + y) * width + x; }
};

template <class T>
struct LossPass {
  const LossArgs& args;
  int index;  // of the level, 0 for the finest
  const Level& level;
  Sweep sweep;
  CoarseGradient<T> coarse;
  double scale;      // dL / d(sum of weighted quality)
  double* partials;  // one sum for each tile

  int count() const { return static_cast<int>(args.exposures_count); }
  const Level& base() const { return args.levels[0]; }

  // Returns whether the sweep writes dL/dlogits.
  bool writes_logits() const { return args.logits.data && index == 0 && sweep.gradient; }

  // Returns the most columns of the level that a tile reads or writes.
  int64_t widest() const { return sweep.tiles.tile_columns + 2 * level.wx + 2; }
};

}  // namespace
}  // namespace fastmef
