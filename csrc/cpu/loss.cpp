// The weighted SSIM loss and its gradient by the fused image (or the logits behind it) in one
// sweep.
//
//   loss_s = 1 - sum_p m(p) sum_k gamma_k(p) SSIM(F, I_k)(p) / sum_p m(p)
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.

#include "loss_tile.h"
#include "parallel.h"
#include "variant.h"

namespace fastmef {
namespace {

template <class T>
void quality_task(void* context, int64_t index, void* scratch) {
  const Pass& pass = *static_cast<const Pass*>(context);
  pass.partials[index] = Tile<T>(pass, index, Arena(scratch)).run();
}

template <class T>
void mask_task(void* context, int64_t index, void* scratch) {
  const Pass& pass = *static_cast<const Pass*>(context);
  pass.partials[index] = Tile<T>(pass, index, Arena(scratch)).mask_sum();
}

template <class T>
double run_tiles(Pass& pass, Task task) {
  parallel_for(pass.grid.count, pass.args.threads, Tile<T>::scratch_bytes(pass), task, &pass);
  double sum = 0.0;
  for (int64_t i = 0; i < pass.grid.count; ++i) sum += pass.partials[i];
  return sum;
}

// Turns dL/dF, left in the first plane of the logits' gradient by the levels, into dL/dlogits.
template <class T>
void logits_task(void* context, int64_t index, void* scratch) {
  const LossArgs& args = *static_cast<const LossArgs*>(context);
  const int64_t height = args.levels[0].height, width = args.levels[0].width;
  const int count = static_cast<int>(args.exposures_count);
  const int64_t wide = round_up(width);
  const int64_t b = index / height, y = index % height;
  Arena arena(scratch);
  T* copies = arena.take<T>(2 * count * wide);
  T* weights = arena.take<T>(count * wide);
  T* fused = arena.take<T>(wide);
  T* by_fused = arena.take<T>(wide);
  const T** exposures = arena.take<const T*>(count);
  const T** logits = arena.take<const T*>(count);
  T** weight_rows = arena.take<T*>(count);
  for (int k = 0; k < count; ++k) {
    exposures[k] = contiguous_row(args.exposures, b, k, y, 0, width, copies + 2 * k * wide);
    logits[k] = contiguous_row(args.logits, b, k, y, 0, width, copies + (2 * k + 1) * wide);
    weight_rows[k] = weights + k * wide;
  }
  softmax_row(logits, count, width, weight_rows, fused, by_fused);
  weighted_sum_row(weight_rows, exposures, count, width, fused);
  T* gradient = static_cast<T*>(args.gradient) + (b * count * height + y) * width;
  memcpy(by_fused, gradient, sizeof(T) * width);
  for (int k = 0; k < count; ++k) {
    T* FASTMEF_RESTRICT out = gradient + k * height * width;
    const T* FASTMEF_RESTRICT w = weight_rows[k];
    const T* FASTMEF_RESTRICT e = exposures[k];
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < width; ++x) out[x] = w[x] * (e[x] - fused[x]) * by_fused[x];
  }
}

template <class T>
size_t logits_scratch(const LossArgs& args) {
  const size_t rows = static_cast<size_t>(3 * args.exposures_count + 2);
  return sizeof(T) * rows * round_up(args.levels[0].width) + 64 * (rows + 3) +
         3 * sizeof(T*) * args.exposures_count;
}

// A small array of sums that frees itself.
struct Sums {
  explicit Sums(int64_t count) : data(new double[count]) {}
  ~Sums() { delete[] data; }
  Sums(const Sums&) = delete;
  Sums& operator=(const Sums&) = delete;
  double* data;
};

template <class T>
double loss(const LossArgs& args) {
  int used = 0;
  for (int s = 0; s < args.level_count; ++s) used += args.levels[s].share != 0;
  const bool defer = args.logits.data && args.gradient && !(used == 1 && args.levels[0].share != 0);
  double total = 0.0;
  bool written = false;
  for (int s = 0; s < args.level_count; ++s) {
    const Level& level = args.levels[s];
    if (level.share == 0) continue;
    const Grid grid(args.batch, level);
    Sums partials(grid.count);
    Pass pass{args, s, level, grid, false, written, defer, 0.0, partials.data};
    double norm = 1.0;
    if (!args.weight.data) {
      norm = static_cast<double>(args.batch) * (level.height - level.wy + 1) *
             (level.width - level.wx + 1);
    } else if (args.weight_is_mask) {
      norm = run_tiles<T>(pass, mask_task<T>);
    }
    pass.with_gradient = args.gradient != nullptr;
    pass.scale = -level.share / norm;
    total += level.share * (1.0 - run_tiles<T>(pass, quality_task<T>) / norm);
    written = true;
  }
  if (defer) {
    parallel_for(args.batch * args.levels[0].height, args.threads, logits_scratch<T>(args),
                 logits_task<T>, const_cast<LossArgs*>(&args));
  }
  return total;
}

}  // namespace

namespace FASTMEF_ISA {

double weighted_ssim_loss(const LossArgs& args, bool in_double) {
  return in_double ? loss<double>(args) : loss<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
