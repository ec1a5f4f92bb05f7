// The weighted SSIM loss and its gradient by the fused image (or the logits behind it) in one
// sweep.
//
//   loss_s = 1 - sum_p m(p) sum_k gamma_k(p) SSIM(F, I_k)(p) / sum_p m(p)
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.

#include "cpu/loss/tile.h"
#include "cpu/runtime/array.h"
#include "cpu/runtime/parallel.h"

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

// What the sum of weighted qualities is divided by.
template <class T>
double weight_sum(Pass& pass) {
  const Level& level = pass.level;
  if (pass.args.weight.data) {
    return pass.args.weight_is_mask ? run_tiles<T>(pass, mask_task<T>) : 1.0;
  }
  return static_cast<double>(pass.args.batch) * (level.height - level.wy + 1) *
         (level.width - level.wx + 1);
}

// The share of level s in the loss, and its gradient: the finest level writes it, others add to the
// sums.
template <class T>
double sweep_level(const LossArgs& args, int s, bool several, const Sums* sums, bool accumulate) {
  const Level& level = args.levels[s];
  const Tiles grid(args.batch, level.height, level.width, Tiles::kColumns, several && s == 0);
  const Array<double> partials(grid.count);
  Pass pass{args, s, level, grid, false, sums, accumulate, 0.0, partials.data};
  const double norm = level.share == 0 ? 1.0 : weight_sum<T>(pass);
  pass.with_gradient = args.gradient.data != nullptr;
  pass.scale = -level.share * args.gradient_scale / norm;
  return level.share * (1.0 - run_tiles<T>(pass, quality_task<T>) / norm);
}

template <class T>
double loss(const LossArgs& args) {
  bool several = false;
  for (int s = 1; s < args.level_count; ++s) several |= args.levels[s].share != 0;
  const bool with_sums = several && args.gradient.data;
  const int64_t height = args.levels[0].height, width = args.levels[0].width;
  const bool own_row = with_sums && !holds(args.gradient, T()) && height % 2 == 1;
  const Array<uint16_t> last(own_row ? args.batch * width : 0);
  const Sums sums(args.gradient, height, last.data, width);
  double total = 0.0;
  bool written = false;
  for (int i = 1; i <= args.level_count; ++i) {
    const int s = i % args.level_count;  // the finest last
    if (args.levels[s].share == 0 && !(with_sums && s == 0)) continue;
    total += sweep_level<T>(args, s, several, with_sums ? &sums : nullptr, written);
    written = true;
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
