// The host's plan of a launch of the loss: sizes of the levels, their division into blocks, and the
// workspace.
#pragma once

#include <string>

#include "cuda/loss/tile.h"
#include "cuda/runtime/checks.h"

namespace fastmef {
namespace {

// Strips have one width, and blocks the number of threads that leaves the fewest idle. Chunks are
// long, because each repeats 20 rows of its neighbours, but short enough for a block on every
// multiprocessor of a large GPU. The division depends on the shape only, because the order of sums
// must not depend on the GPU. It was not timed on a GPU.
constexpr int kMultiprocessors = 132, kFewestRows = 64;

// Returns the number of strips for blocks of this many threads.
int strips_of(int width, int threads) {
  if (width <= threads) return 1;
  if ((width + 1) / 2 + kHalo <= threads) return 2;
  const int columns = threads - 2 * kHalo;
  return (width + columns - 1) / columns;
}

// Sets the strips, chunks and blocks of all levels, and the threads of a block.
void divide(LossArgs& a) {
  const Level& finest = a.level[0];
  const int most = a.count == 2 ? kMostThreads<2> : kMostThreads<3>;
  a.threads = most;
  for (int threads = most - 32; threads >= 64; threads -= 32) {
    const auto columns = [&](int n) {
      return static_cast<int64_t>(strips_of(finest.width, n)) * n;
    };
    if (columns(threads) < columns(a.threads)) a.threads = threads;
  }
  const int64_t across = a.batch * strips_of(finest.width, a.threads);
  const int chunks = static_cast<int>(kMultiprocessors / across);
  int rows = finest.height;
  if (chunks > 1) rows = (finest.height + chunks - 1) / chunks;
  rows = rows > kFewestRows ? rows + rows % 2 : kFewestRows;
  int64_t blocks = 0;
  for (int l = a.levels - 1; l >= 0; --l) {
    Level& level = a.level[l];
    level.strips = strips_of(level.width, a.threads);
    level.columns = (level.width + level.strips - 1) / level.strips;
    level.rows = rows;
    level.chunks = (level.height + rows - 1) / rows;
    level.first = static_cast<int>(blocks);
    const int64_t here = level.weight == 0.0f ? 0 : a.batch * level.strips * level.chunks;
    level.blocks = static_cast<int>(here);
    blocks += here;
    if (blocks > INT32_MAX) refuse("fusion_loss", "needs more than 2^31 - 1 blocks of threads");
  }
  a.blocks = static_cast<int>(blocks);
}

// Divides the workspace of a call: counters, the sums of blocks, and for every coarser level F, the
// exposures and the gradient w.r.t. F. Returns the number of float64 that it takes.
int64_t lay_out(LossArgs& a, void* workspace) {
  double* const begin = static_cast<double*>(workspace);
  int64_t size = 1 + a.blocks;
  a.counters = reinterpret_cast<unsigned*>(begin);
  a.partials = begin + 1;
  for (int l = 1; l < a.levels; ++l) {
    Level& level = a.level[l];
    const int64_t area = static_cast<int64_t>(level.height) * level.width;
    const int64_t planes = a.count + 1;
    float* const images = reinterpret_cast<float*>(begin + size);
    float* const gradient = images + a.batch * planes * area;
    level.source = {images, kFloat32, planes * area, 0, 0, level.width, 1};
    level.exposures = {images + area, kFloat32, planes * area, area, 0, level.width, 1};
    level.gradient = {gradient, kFloat32, area, 0, 0, level.width, 1};
    if (!a.level[0].gradient.data) level.gradient.data = nullptr;
    size += (a.batch * (planes + 1) * area + 1) / 2;
  }
  return size;
}

// Returns the arguments of the kernels: sizes, the division of work, and memory. `size` is the
// number of float64 in the workspace.
LossArgs plan(const LossCall& call, int64_t& size) {
  const char* name = "fusion_loss";
  check_sizes(name, {call.batch, call.count, 1, call.height, call.width});
  if (call.count != 2 && call.count != 3) {
    refuse(name, "takes 2 or 3 exposures, got " + std::to_string(call.count));
  }
  if (call.levels < 1 || call.levels > kMostLevels) {
    refuse(name, "takes 1 to 6 scales, got " + std::to_string(call.levels));
  }
  const int shrunk = call.levels - 1;
  if (((call.height - 1) >> shrunk) + 1 < kWindow || ((call.width - 1) >> shrunk) + 1 < kWindow) {
    refuse(name, "takes images of at least 11 x 11 pixels at every scale, got " +
                     std::to_string(call.height) + " x " + std::to_string(call.width) + " at " +
                     std::to_string(call.levels) + " scales");
  }
  constexpr int64_t most = INT32_MAX - 1024;
  if (call.height > most || call.width > most) {
    refuse(name, "takes images of less than 2^31 rows and columns");
  }
  LossArgs a{};
  a.batch = call.batch;
  a.count = call.count;
  a.from_logits = call.from_logits;
  a.levels = call.levels;
  a.level[0].source = call.source;
  a.level[0].exposures = call.exposures;
  a.level[0].gradient = call.gradient;
  int height = static_cast<int>(call.height), width = static_cast<int>(call.width);
  for (int l = 0; l < a.levels; ++l) {
    Level& level = a.level[l];
    level.height = height;
    level.width = width;
    const double windows = static_cast<double>(a.batch) * (height - kHalo) * (width - kHalo);
    level.weight = static_cast<float>(call.scales[l] / windows);
    level.gradient_scale = -call.gradient_scale * level.weight;
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  }
  a.in_pairs = a.level[0].width % 2 == 0;
  for (const Stack* x : {&call.source, &call.exposures}) {
    a.in_pairs &= x->dtype == kFloat32 && x->column == 1 && runs_align(*x, 2, call.height);
  }
  divide(a);
  size = lay_out(a, call.workspace);
  a.value = call.value;
  for (int i = 0; i < kWindow; ++i) a.taps[i] = call.taps[i];
  a.attributes = call.attributes;
  a.luminance = call.luminance;
  a.c1 = call.c1;
  a.c2 = call.c2;
  a.floor = call.floor;
  a.eps = call.eps;
  return a;
}

}  // namespace
}  // namespace fastmef
