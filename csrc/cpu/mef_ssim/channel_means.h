// Window means of colour images over all three channels jointly. The products of pixels are summed
// over the channels before they are filtered, so each map is filtered once, not once per channel.
#pragma once

#include "cpu/window/sweep.h"

namespace fastmef {
namespace {

// Base is a WindowSweep whose images are the channels of colour images: channel c of image i is
// image 3 i + c. Op has void multiply(int64_t row), which fills product(row, m) for each map m with
// the functions below.
template <class T, class Op, class Base>
class ChannelMeans : public Base {
 public:
  static constexpr int kChannels = 3;

  // Gives the channels of an image one constant, because a window contains all of them.
  void sample(int64_t y, int64_t x, T* values) {
    Base::sample(y, x, values);
    for (int p = 0; p < this->sweep_.images; p += kChannels) {
      const T mean = (values[p] + values[p + 1] + values[p + 2]) / kChannels;
      for (int c = 0; c < kChannels; ++c) values[p + c] = mean;
    }
  }

  void filter(int64_t y, int rows) {
    block_ = y, rows_ = rows;
    for (int m = 0; m < maps_; ++m) filtered_[m] = false;
    for (; next_ < y + rows + this->sweep_.y.window - 1; ++next_) {
      static_cast<Op*>(this)->multiply(next_);
    }
  }

 protected:
  using Base::Base;

  void carve_means(Arena& arena, int maps) {
    maps_ = maps;
    products_ = arena.take<T>(slots() * maps * this->stride_);
    means_ = arena.take<T>(maps * kBlock * this->stride_);
    filtered_ = arena.take<bool>(maps);
    rows_list_ = arena.take<const T*>(this->sweep_.y.window + kBlock - 1);
  }
  void clear_means() { next_ = this->a0_; }

  // Computes the mean over the channels of image i.
  void add_channels(int64_t row, int i, int m) {
    const T* FASTMEF_RESTRICT r = this->ring(row, kChannels * i);
    const T* FASTMEF_RESTRICT g = this->ring(row, kChannels * i + 1);
    const T* FASTMEF_RESTRICT b = this->ring(row, kChannels * i + 2);
    T* FASTMEF_RESTRICT out = product(row, m);
    const int64_t n = round_up(this->inputs_);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) out[x] = (r[x] + g[x] + b[x]) * (T(1) / kChannels);
  }

  // Computes the mean over the channels of the product of images i and j.
  void multiply_channels(int64_t row, int i, int j, int m) {
    const T* FASTMEF_RESTRICT r = this->ring(row, kChannels * i);
    const T* FASTMEF_RESTRICT g = this->ring(row, kChannels * i + 1);
    const T* FASTMEF_RESTRICT b = this->ring(row, kChannels * i + 2);
    const T* FASTMEF_RESTRICT s = this->ring(row, kChannels * j);
    const T* FASTMEF_RESTRICT t = this->ring(row, kChannels * j + 1);
    const T* FASTMEF_RESTRICT u = this->ring(row, kChannels * j + 2);
    T* FASTMEF_RESTRICT out = product(row, m);
    const int64_t n = round_up(this->inputs_);
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) {
      out[x] = (r[x] * s[x] + g[x] * t[x] + b[x] * u[x]) * (T(1) / kChannels);
    }
  }

  // Returns the means of map m in window row y. The rows of a block are filtered together, when the
  // first of them is wanted.
  const T* mean_row(int64_t y, int m) {
    T* means = means_ + m * kBlock * this->stride_;
    if (!filtered_[m]) {
      const int count = this->sweep_.y.window + rows_ - 1;
      for (int j = 0; j < count; ++j) rows_list_[j] = product(block_ + j, m);
      this->window_means(rows_list_, rows_, means);
      filtered_[m] = true;
    }
    return means + (y - block_) * this->stride_;
  }

 private:
  int64_t slots() const { return this->sweep_.y.window + kBlock - 1; }
  T* product(int64_t row, int m) const {
    return products_ + (row % slots() * maps_ + m) * this->stride_;
  }

  int maps_ = 0, rows_ = 0;
  int64_t block_ = 0, next_ = 0;
  T *products_ = nullptr, *means_ = nullptr;
  bool* filtered_ = nullptr;
  const T** rows_list_ = nullptr;
};

}  // namespace
}  // namespace fastmef
