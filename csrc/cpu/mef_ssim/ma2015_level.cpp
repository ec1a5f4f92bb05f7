// The maps of MEF-SSIM ma2015 that depend on the exposures only, at one scale, in one sweep.
//
// This file is compiled once for every instruction set; FASTMEF_ISA names the set.
#include "cpu/mef_ssim/ma2015_structure.h"
#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

struct LevelPass {
  const MefShape& shape;
  const Ma2015Maps& maps;
  Sweep sweep;
  Stack images;
  const double* image_means;  // (B, K)
};

template <class T, class Op>
class ExposureSweep : public WindowSweep<T, Op> {
 protected:
  explicit ExposureSweep(const LevelPass& pass) : WindowSweep<T, Op>(pass.sweep) {}
};

template <class T>
class Ma2015Level : public Ma2015Structure<T, ExposureSweep<T, Ma2015Level<T>>> {
  using Base = Ma2015Structure<T, ExposureSweep<T, Ma2015Level<T>>>;

 public:
  explicit Ma2015Level(const LevelPass& pass) : Base(pass, pass.shape, 0, 1.0), pass_(pass) {}

  void carve_more(Arena& arena) { this->carve_structure(arena); }
  void clear_more() { this->clear_structure(); }

  void run(int64_t tile) {
    Base::run(tile);
    write_exposures();
  }

  Pixels image(int p) const {
    return {&pass_.images, this->batch_ * pass_.images.plane + p * pass_.images.layer};
  }

  void windows(int64_t y) {
    this->compute_structure(y);
    const Axis &rows = pass_.shape.y, &columns = pass_.shape.x;
    const int64_t at = (this->batch_ * rows.windows() + y) * columns.windows() + this->b0_;
    memcpy(static_cast<T*>(pass_.maps.variance) + at, this->structure_variance(),
           sizeof(T) * this->windows_);
    for (int k = 0; k < this->images(); ++k) {
      const int64_t plane = this->batch_ * this->images() + k;
      const int64_t at_plane = (plane * rows.windows() + y) * columns.windows() + this->b0_;
      T* FASTMEF_RESTRICT means = static_cast<T*>(pass_.maps.means) + at_plane;
      const T* FASTMEF_RESTRICT mean = this->structure_mean(k);
      const T shift = this->shifts_[k] - static_cast<T>(pass_.image_means[plane]);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < this->windows_; ++x) means[x] = mean[x] + shift;
      memcpy(static_cast<T*>(pass_.maps.gains) + at_plane, this->structure_gain(k),
             sizeof(T) * this->windows_);
    }
  }

 private:
  // Writes the pixels of the tile minus the means of their planes.
  void write_exposures() {
    const int64_t height = pass_.shape.y.size, width = pass_.shape.x.size;
    for (int k = 0; k < this->images(); ++k) {
      const int64_t plane = this->batch_ * this->images() + k;
      const T mean = static_cast<T>(pass_.image_means[plane]);
      for (int64_t y = this->r0_; y < this->r1_; ++y) {
        const int64_t at = (plane * height + y) * width + this->c0_;
        const T* FASTMEF_RESTRICT in = static_cast<const T*>(pass_.images.data) + at;
        T* FASTMEF_RESTRICT out = static_cast<T*>(pass_.maps.exposures) + at;
        FASTMEF_VECTORIZE
        for (int64_t x = 0; x < this->c1_ - this->c0_; ++x) out[x] = in[x] - mean;
      }
    }
  }

  const LevelPass& pass_;
};

template <class T>
void level(const MefShape& shape, const void* images, const Ma2015Maps& maps) {
  const int64_t height = shape.y.size, width = shape.x.size;
  const int count = static_cast<int>(shape.count);
  const Array<double> image_means(shape.batch * count);
  plane_means<T>(images, shape.batch * count, height, width, nullptr, nullptr, shape.threads,
                 image_means.data);
  const LevelPass pass{
      shape,
      maps,
      {shape.y, shape.x, shape.taps_y, shape.taps_x, Tiles(shape.batch, height, width, kMefColumns),
       count, 0, false, false},
      planes<T>(images, count, height, width),
      image_means.data,
  };
  sweep_tiles<Ma2015Level<T>>(pass, shape.threads);
}

}  // namespace

namespace FASTMEF_ISA {

void ma2015_level(const MefShape& shape, const void* images, const Ma2015Maps& maps,
                  bool in_double) {
  in_double ? level<double>(shape, images, maps) : level<float>(shape, images, maps);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
