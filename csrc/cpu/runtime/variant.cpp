// The table of one instruction set, named by FASTMEF_ISA.
#include "cpu/runtime/variant.h"

namespace fastmef {
namespace FASTMEF_ISA {

double weighted_ssim_loss(const LossArgs&, bool in_double);
void softmax_fuse(const FuseArgs&, bool backward, bool in_double);
void pyramid_reduce(const ReduceArgs&, bool in_double);
void blend_band(const BandArgs&, bool in_double);
void blend_band_backward(const BandBackwardArgs&, bool in_double);
void filters(const FilterArgs&, bool in_double);
double ssim(const SsimArgs&, bool in_double);
void ma2015_level(const MefShape&, const void*, const Ma2015Maps&, bool in_double);
void ma2015_quality(const MefShape&, const Ma2015Maps&, const MefScore&, bool in_double);
void ma2015_once(const MefShape&, void*, double, const MefScore&, bool in_double);
void halve(const HalveArgs&, bool in_double);
void mefnet_sources(const MefShape&, const MefnetMaps&, bool in_double);
void mefnet_factors(const MefShape&, const MefnetMaps&, const MefScore&, bool in_double);

#define FASTMEF_QUOTE_(x) #x
#define FASTMEF_QUOTE(x) FASTMEF_QUOTE_(x)

const Variant variant = {FASTMEF_QUOTE(FASTMEF_ISA),
                         weighted_ssim_loss,
                         softmax_fuse,
                         pyramid_reduce,
                         blend_band,
                         blend_band_backward,
                         filters,
                         ssim,
                         ma2015_level,
                         ma2015_quality,
                         ma2015_once,
                         halve,
                         mefnet_sources,
                         mefnet_factors};

}  // namespace FASTMEF_ISA
}  // namespace fastmef
