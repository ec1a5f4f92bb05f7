// The weighted SSIM loss and its gradient by the fused image (or the logits behind it) in one
// sweep.
//
//   loss_s = 1 - sum_p m(p) sum_k gamma_k(p) SSIM(F, I_k)(p) / sum_p m(p)
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.

#include "array.h"
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

// The last step over full-size rows, where the levels could not write the gradient itself.
struct Finish {
  const LossArgs& args;
  Low low;
};

// dL/dF of a row, as the levels left it in the first plane of the gradient.
template <class T>
void read_sums(const Finish& finish, int64_t b, int64_t y, T* out) {
  const Stack& gradient = finish.args.gradient;
  const int64_t width = finish.args.levels[0].width;
  if (finish.low.data) {
    join_row(split_at(gradient, finish.low, b, y, 0), width, out);
  } else {
    read(gradient, offset_of(gradient, b, 0, y, 0), 1, width, out);
  }
}

template <class T>
void fused_task(void* context, int64_t index, void* scratch) {
  const Finish& finish = *static_cast<const Finish*>(context);
  const Stack& gradient = finish.args.gradient;
  const Level& base = finish.args.levels[0];
  const int64_t b = index / base.height, y = index % base.height;
  T* row = Arena(scratch).take<T>(base.width);
  read_sums(finish, b, y, row);
  write(gradient, offset_of(gradient, b, 0, y, 0), 1, base.width, row);
}

// The rows that turn dL/dF into dL/dlogits.
template <class T>
struct LogitsScratch {
  T *copies, *weights, *fused, *by_fused, *out;
  const T **exposures, **logits;
  T** weight_rows;
  int64_t wide;

  LogitsScratch(const LossArgs& args, Arena& arena) {
    const int64_t count = args.exposures_count;
    wide = round_up(args.levels[0].width);
    copies = arena.take<T>(2 * count * wide);
    weights = arena.take<T>(count * wide);
    fused = arena.take<T>(wide);
    by_fused = arena.take<T>(wide);
    out = arena.take<T>(wide);
    exposures = arena.take<const T*>(count);
    logits = arena.take<const T*>(count);
    weight_rows = arena.take<T*>(count);
  }
};

template <class T>
void logits_task(void* context, int64_t index, void* scratch) {
  const Finish& finish = *static_cast<const Finish*>(context);
  const LossArgs& args = finish.args;
  const int64_t height = args.levels[0].height, width = args.levels[0].width;
  const int count = static_cast<int>(args.exposures_count);
  const int64_t b = index / height, y = index % height;
  Arena arena(scratch);
  const LogitsScratch<T> rows(args, arena);
  for (int k = 0; k < count; ++k) {
    T* copy = rows.copies + 2 * k * rows.wide;
    rows.exposures[k] = dense_row(args.exposures, b, k, y, 0, width, copy);
    rows.logits[k] = dense_row(args.logits, b, k, y, 0, width, copy + rows.wide);
    rows.weight_rows[k] = rows.weights + k * rows.wide;
  }
  softmax_row(rows.logits, count, width, rows.weight_rows, rows.fused, rows.by_fused);
  weighted_sum_row(rows.weight_rows, rows.exposures, count, width, rows.fused);
  read_sums(finish, b, y, rows.by_fused);
  for (int k = 0; k < count; ++k) {
    T* FASTMEF_RESTRICT out = rows.out;
    const T* FASTMEF_RESTRICT w = rows.weight_rows[k];
    const T* FASTMEF_RESTRICT e = rows.exposures[k];
    const T* FASTMEF_RESTRICT fused = rows.fused;
    const T* FASTMEF_RESTRICT by_fused = rows.by_fused;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < width; ++x) out[x] = w[x] * (e[x] - fused[x]) * by_fused[x];
    write(args.gradient, offset_of(args.gradient, b, k, y, 0), 1, width, rows.out);
  }
}

template <class T>
void finish_rows(Finish& finish) {
  const LossArgs& args = finish.args;
  Arena counting(nullptr);
  if (args.logits.data) {
    LogitsScratch<T>(args, counting);
  } else {
    counting.take<T>(args.levels[0].width);
  }
  parallel_for(args.batch * args.levels[0].height, args.threads, counting.used(),
               args.logits.data ? logits_task<T> : fused_task<T>, &finish);
}

template <class T>
double loss(const LossArgs& args) {
  int used = 0;
  for (int s = 0; s < args.level_count; ++s) used += args.levels[s].share != 0;
  const bool gradient = args.gradient.data != nullptr;
  const bool defer = args.logits.data && gradient && !(used == 1 && args.levels[0].share != 0);
  const bool split = gradient && !holds(args.gradient, T()) && (used > 1 || defer);
  const bool own_low = split && !(args.logits.data && args.exposures_count > 1);
  const int64_t pixels = args.levels[0].height * args.levels[0].width;
  const Array<uint16_t> memory(own_low ? args.batch * pixels : 0);
  Low low{memory.data, pixels};
  if (split && !own_low) {
    low = {static_cast<uint16_t*>(args.gradient.data) + args.gradient.layer, args.gradient.plane};
  }
  double total = 0.0;
  bool written = false;
  for (int s = 0; s < args.level_count; ++s) {
    const Level& level = args.levels[s];
    if (level.share == 0) continue;
    const Tiles grid(args.batch, level.height, level.width);
    const Array<double> partials(grid.count);
    Pass pass{args, s, level, grid, false, written, defer, low, 0.0, partials.data};
    double norm = 1.0;
    if (!args.weight.data) {
      norm = static_cast<double>(args.batch) * (level.height - level.wy + 1) *
             (level.width - level.wx + 1);
    } else if (args.weight_is_mask) {
      norm = run_tiles<T>(pass, mask_task<T>);
    }
    pass.with_gradient = gradient;
    pass.scale = -level.share * args.gradient_scale / norm;
    total += level.share * (1.0 - run_tiles<T>(pass, quality_task<T>) / norm);
    written = true;
  }
  if (defer || split) {
    Finish finish{args, low};
    finish_rows<T>(finish);
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
