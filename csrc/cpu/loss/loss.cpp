// The weighted SSIM loss and its gradient w.r.t. the fused image or the logits, in one sweep of
// every level.
//
//   loss_s = 1 - sum_p m(p) sum_k gamma_k(p) SSIM(F, I_k)(p) / sum_p m(p)
//
// This file is compiled once for every instruction set; FASTMEF_ISA names the set.

#include "cpu/loss/loss.h"

#include "cpu/loss/sweep.h"
#include "cpu/runtime/array.h"

namespace fastmef {
namespace {

// Runs Op over all tiles and returns the sum of its partial sums.
template <class Op, class T>
double sum_over_tiles(const LossPass<T>& pass) {
  sweep_tiles<Op>(pass, pass.args.threads);
  double sum = 0.0;
  for (int64_t i = 0; i < pass.sweep.tiles.count; ++i) sum += pass.partials[i];
  return sum;
}

// Returns the sum of the weights of all windows, the divisor of the mean.
template <class T>
double weight_sum(const LossPass<T>& pass) {
  if (pass.args.weight.data) {
    return pass.args.weight_is_mask ? sum_over_tiles<MaskSum<T>>(pass) : 1.0;
  }
  return static_cast<double>(pass.args.batch) * pass.sweep.y.windows() * pass.sweep.x.windows();
}

// Returns the part of level s in the loss and computes its gradient, which the finest level writes
// and other levels add to `coarse`.
template <class T>
double sweep_level(const LossArgs& args, int s, const CoarseGradient<T>& coarse) {
  const Level& level = args.levels[s];
  const Tiles tiles(args.batch, level.height, level.width);
  const Array<double> partials(tiles.count);
  const int count = static_cast<int>(args.exposures_count);
  LossPass<T> pass{args,
                   s,
                   level,
                   {{level.height, level.wy, kValid},
                    {level.width, level.wx, kValid},
                    level.taps_y,
                    level.taps_x,
                    tiles,
                    1 + count,
                    2 + count,
                    args.grad.data != nullptr,
                    (args.attributes & kGradient) != 0},
                   coarse,
                   0.0,
                   partials.data};
  const double norm = level.loss_weight == 0 ? 1.0 : weight_sum(pass);
  pass.scale = -level.loss_weight * args.grad_scale / norm;
  return level.loss_weight * (1.0 - sum_over_tiles<LossSweep<T>>(pass) / norm);
}

template <class T>
double loss(const LossArgs& args) {
  bool several = false;
  for (int s = 1; s < args.level_count; ++s) several |= args.levels[s].loss_weight != 0;
  const bool sums_up = several && args.grad.data;
  const int64_t height = sums_up ? args.levels[1].height : 0;
  const int64_t width = sums_up ? args.levels[1].width : 0;
  const Array<T> sums(args.batch * height * width);
  const CoarseGradient<T> coarse{sums.data, height, width};
  double total = 0.0;
  for (int i = 1; i <= args.level_count; ++i) {
    const int s = i % args.level_count;  // the finest last
    if (args.levels[s].loss_weight == 0 && !(sums_up && s == 0)) continue;
    total += sweep_level(args, s, coarse);
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
