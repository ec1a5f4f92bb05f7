// The attributes of the exposures in one row of windows, their products A_k, and gamma.
#pragma once

#include "cpu/filters/filters.h"
#include "cpu/window/importance.h"
#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

struct FilterPass {
  const FilterArgs& args;
  Sweep sweep;
};

template <class T, class Op>
class Measure : public WindowSweep<T, Op> {
  using Base = WindowSweep<T, Op>;

 protected:
  // Rows kept for each exposure.
  enum { kV, kGx, kGy, kS, kE, kProduct, kRows };

  explicit Measure(const FilterPass& pass) : Base(pass.sweep), args_(pass.args) {}

  // Allocates the rows.
  void carve_rows(Arena& arena) {
    rows_ = arena.take<T>(kRows * args_.count * this->stride_);
    means_ = arena.take<T>(args_.count * kBlock * this->stride_);
    second_moments_ = arena.take<T>(args_.count * kBlock * this->stride_);
    total_ = arena.take<T>(this->stride_);
  }

  bool has(Attribute attribute) const { return args_.attributes & attribute; }
  // Returns a row of windows; index i is window b0_ + i.
  T* row(int what, int k) const { return rows_ + (what * args_.count + k) * this->stride_; }
  // Rows of E[x] and E[x^2] of exposure k.
  T* mean(int k) const { return means_ + (k * kBlock + row_) * this->stride_; }
  T* second_moment(int k) const { return second_moments_ + (k * kBlock + row_) * this->stride_; }
  // Returns sum_k A_k + eps; add_up() must have been called.
  const T* total() const { return total_; }

  // Computes the moments of some rows of windows, for which measure() may then be called.
  void filter(int64_t y, int rows) {
    first_ = y;
    row_ = 0;
    for (int k = 0; k < args_.count && has(kVariance); ++k) {
      this->moments(y, rows, k, mean(k), second_moment(k));
    }
  }

  // Computes the attributes of exposure k and their product.
  void measure(int64_t y, int k) {
    row_ = y - first_;
    const int64_t middle = y + args_.y.window / 2, centre = args_.x.window / 2;
    const int64_t above = most(middle - 1, 0), below = least(middle + 1, args_.y.padded() - 1);
    const ImportanceInputs<T> in{mean(k),
                                 second_moment(k),
                                 this->ring(above, k) + centre,
                                 this->ring(middle, k) + centre,
                                 this->ring(below, k) + centre,
                                 static_cast<T>(args_.floor),
                                 this->shifts_[k]};
    const FactorRows<T> factors{row(kV, k), row(kGx, k), row(kGy, k), row(kS, k), row(kE, k)};
    importance<true>(args_.attributes, round_up(this->windows_), in, factors, row(kProduct, k));
  }

  // Computes total_ = sum_k A_k + eps and replaces the products by gamma.
  void add_up() {
    const int64_t n = round_up(this->windows_);
    T* FASTMEF_RESTRICT total = total_;
    const T eps = static_cast<T>(args_.eps);
    for (int64_t x = 0; x < n; ++x) total[x] = 0;
    for (int k = 0; k < args_.count; ++k) {
      const T* FASTMEF_RESTRICT product = row(kProduct, k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) total[x] += product[x];
    }
    for (int64_t x = 0; x < n; ++x) total[x] += eps;
    for (int k = 0; k < args_.count; ++k) {
      T* FASTMEF_RESTRICT product = row(kProduct, k);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < n; ++x) product[x] /= total[x];
    }
  }

  const FilterArgs& args_;

 private:
  T *rows_ = nullptr, *means_ = nullptr, *second_moments_ = nullptr, *total_ = nullptr;
  int64_t first_ = 0, row_ = 0;  // first window row with moments; the current row, counted from it
};

}  // namespace
}  // namespace fastmef
