#include "common/binding.h"
#include "cpu/loss/loss.h"
#include "cpu/runtime/large_pages.h"

namespace py = pybind11;

namespace fastmef {
namespace {

// A level: (height, width, taps_y, taps_x, loss_weight).
using LevelTuple = std::tuple<int64_t, int64_t, std::vector<double>, std::vector<double>, double>;

double weighted_ssim_loss(bool in_double, int64_t batch, int64_t count,
                          const std::vector<LevelTuple>& levels, const Stack& fused,
                          const Stack& logits, const Stack& exposures, const Stack& weight,
                          bool weight_is_mask, int attributes, bool luminance, double c1, double c2,
                          double floor, double eps, const Stack& grad, double grad_scale,
                          const Stack& map, int threads) {
  std::vector<Level> rows;
  for (const auto& [height, width, taps_y, taps_x, loss_weight] : levels) {
    rows.push_back({height, width, static_cast<int>(taps_y.size()), static_cast<int>(taps_x.size()),
                    taps_y.data(), taps_x.data(), loss_weight});
  }
  const LossArgs args{batch,       count,      static_cast<int>(rows.size()),
                      rows.data(), fused,      logits,
                      exposures,   weight,     weight_is_mask,
                      attributes,  luminance,  c1,
                      c2,          floor,      eps,
                      grad,        grad_scale, map,
                      threads};
  const py::gil_scoped_release release;
  if (!rows.empty()) {
    const int64_t pixels = batch * rows[0].height * rows[0].width;
    prefer_large_pages(grad, pixels * (logits.data ? count : 1));
  }
  return weighted_ssim_loss_kernel(args, in_double);
}

}  // namespace

FASTMEF_BINDING(m) { m.def("weighted_ssim_loss", &weighted_ssim_loss); }

}  // namespace fastmef
