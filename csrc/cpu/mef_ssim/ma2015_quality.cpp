// The score of MEF-SSIM ma2015 at one scale, and its gradient w.r.t. the fused image, in one sweep.
// The inputs are the maps of the exposures, or the exposures, whose maps are then not stored.
//
// This file is compiled once for every instruction set; FASTMEF_ISA names the set.
#include "cpu/mef_ssim/ma2015_score.h"
#include "cpu/mef_ssim/ma2015_structure.h"

namespace fastmef {
namespace {

// Scores with maps that were computed before.
template <class T>
class Ma2015 : public Ma2015Score<T, Ma2015<T>, ScoreSweep<T, Ma2015<T>>> {
  using Base = Ma2015Score<T, Ma2015<T>, ScoreSweep<T, Ma2015<T>>>;

 public:
  template <class Pass>
  explicit Ma2015(const Pass& pass) : Base(pass), maps_(pass.maps) {}

  void carve_rows(Arena& arena) { this->carve_score(arena); }
  void score(int64_t y) { this->compute_score(y); }

  const T* mean_row(int k, int64_t y) const {
    return this->map_row(maps_.means, this->pass_.count(), k, y);
  }
  T mean_shift(int k) const { return this->shifts_[k + 1]; }
  const T* gain_row(int k, int64_t y) const {
    return this->map_row(maps_.gains, this->pass_.count(), k, y);
  }
  const T* variance_row(int64_t y) const { return this->map_row(maps_.variance, 1, 0, y); }

 private:
  const Ma2015Maps& maps_;
};

struct Exposures {
  void* exposures;
  double unit;  // the grey level, 0-255, of the value 1.0
};

// Scores and computes the rows of the maps in the same sweep.
template <class T>
class Ma2015Once
    : public Ma2015Score<T, Ma2015Once<T>, Ma2015Structure<T, ScoreSweep<T, Ma2015Once<T>>>> {
  using Base = Ma2015Score<T, Ma2015Once<T>, Ma2015Structure<T, ScoreSweep<T, Ma2015Once<T>>>>;

 public:
  // This sweep reads no maps, so narrow tiles are faster: their rows stay in the first caches.
  static constexpr int64_t kColumns = 256;

  template <class Pass>
  explicit Ma2015Once(const Pass& pass) : Base(pass, pass.shape, 1, pass.maps.unit) {}

  void carve_rows(Arena& arena) {
    this->carve_structure(arena);
    this->carve_score(arena);
  }
  void clear_more() {
    Base::clear_more();
    this->clear_structure();
  }
  void score(int64_t y) {
    this->compute_structure(y);
    this->compute_score(y);
  }

  const T* mean_row(int k, int64_t) const { return this->structure_mean(k); }
  T mean_shift(int) const { return 0; }
  const T* gain_row(int k, int64_t) const { return this->structure_gain(k); }
  const T* variance_row(int64_t) const { return this->structure_variance(); }
};

template <class T>
void quality(const MefShape& shape, const Ma2015Maps& maps, double unit, const MefScore& score) {
  if (maps.means) {
    score_tiles<T, Ma2015>(shape, maps, score);
  } else {
    score_tiles<T, Ma2015Once>(shape, Exposures{maps.exposures, unit}, score);
  }
}

}  // namespace

namespace FASTMEF_ISA {

void ma2015_quality(const MefShape& shape, const Ma2015Maps& maps, double unit,
                    const MefScore& score, bool in_double) {
  in_double ? quality<double>(shape, maps, unit, score) : quality<float>(shape, maps, unit, score);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
