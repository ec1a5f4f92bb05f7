// The score of MEF-SSIM ma2015 at one scale, and its gradient w.r.t. the fused image, in one sweep:
// from the maps of the exposures, or straight from the exposures, whose maps are then never stored.
//
// Compiled once for every instruction set; FASTMEF_ISA names the set.
#include "cpu/mef_ssim/ma2015_score.h"
#include "cpu/mef_ssim/ma2015_structure.h"

namespace fastmef {
namespace {

template <class T>
class Ma2015 : public Ma2015Score<T, Ma2015<T>, ScoreSweep<T, Ma2015<T>>> {
  using Base = Ma2015Score<T, Ma2015<T>, ScoreSweep<T, Ma2015<T>>>;

 public:
  template <class Pass>
  explicit Ma2015(const Pass& pass) : Base(pass), maps_(pass.maps) {}

  void carve_rows(Arena& arena) { this->carve_score(arena); }
  void score(int64_t y) { this->find_score(y); }

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
  double unit;  // grey levels, of which white has 255, in 1.0
};

template <class T>
class Ma2015Once
    : public Ma2015Score<T, Ma2015Once<T>, Ma2015Structure<T, ScoreSweep<T, Ma2015Once<T>>>> {
  using Base = Ma2015Score<T, Ma2015Once<T>, Ma2015Structure<T, ScoreSweep<T, Ma2015Once<T>>>>;

 public:
  // No maps stream past, so the rows under the window had better stay in the first caches.
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
    this->find_structure(y);
    this->find_score(y);
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
