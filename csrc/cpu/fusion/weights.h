// W = softmax_k(logits / T) over the valid exposures, for a block of columns at a time.
#pragma once

#include <math.h>

#include "cpu/fusion/softmax_fuse.h"
#include "cpu/fusion/softmax_rows.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/storage.h"

namespace fastmef {
namespace {

template <class T>
class FuseWeights {
 public:
  static constexpr int64_t kBlock = 512;  // columns

  FuseWeights(const FuseArgs& args, Arena& arena)
      : args_(args),
        logits_(arena.take<T>(args.exposures_count * kBlock)),
        weights_(arena.take<T>(args.exposures_count * kBlock)),
        highest_(arena.take<T>(kBlock)),
        total_(arena.take<T>(kBlock)),
        logit_rows_(arena.take<const T*>(args.exposures_count)),
        weight_rows_(arena.take<T*>(args.exposures_count)) {}

  // The weights of exposure k begin at data() + k * kBlock.
  const T* data() const { return weights_; }
  T* of(int64_t k) const { return weights_ + k * kBlock; }

  // Computes the weights of columns [x, x + n) of row y; n is at most kBlock.
  void make(int64_t b, int64_t y, int64_t x, int64_t n) {
    const Stack& logits = args_.logits;
    const bool tempered = args_.temperature != 1;
    const bool ready = holds(logits, T()) && logits.column == 1 && !tempered && !args_.valid.data;
    for (int64_t k = 0; k < args_.exposures_count; ++k) {
      const int64_t offset = offset_of(logits, b, k, y, x);
      T* row = logits_ + k * kBlock;
      if (!ready) read(logits, offset, logits.column, n, row);
      if (tempered) divide(row, n);
      logit_rows_[k] = ready ? reinterpret_cast<const T*>(address(logits, offset)) : row;
      weight_rows_[k] = of(k);
    }
    if (args_.valid.data) apply_validity(b, y, x, n);
    softmax_row(logit_rows_, static_cast<int>(args_.exposures_count), n, weight_rows_, highest_,
                total_);
  }

 private:
  void divide(T* FASTMEF_RESTRICT logit, int64_t n) {
    const T temperature = static_cast<T>(args_.temperature);
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n; ++i) logit[i] /= temperature;
  }

  // Sets the logits of exposures that are not valid to -inf, unless none is valid.
  void apply_validity(int64_t b, int64_t y, int64_t x, int64_t n) {
    T* FASTMEF_RESTRICT flag = highest_;
    T* FASTMEF_RESTRICT valid = total_;
    for (int64_t i = 0; i < n; ++i) valid[i] = 0;
    for (int64_t k = 0; k < args_.exposures_count; ++k) {
      read(args_.valid, offset_of(args_.valid, b, k, y, x), args_.valid.column, n, flag);
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) valid[i] += flag[i];
    }
    for (int64_t k = 0; k < args_.exposures_count; ++k) {
      read(args_.valid, offset_of(args_.valid, b, k, y, x), args_.valid.column, n, flag);
      T* FASTMEF_RESTRICT logit = logits_ + k * kBlock;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n; ++i) {
        logit[i] = (flag[i] == 0) & (valid[i] != 0) ? -static_cast<T>(INFINITY) : logit[i];
      }
    }
  }

  const FuseArgs& args_;
  T *logits_, *weights_, *highest_, *total_;
  const T** logit_rows_;
  T** weight_rows_;
};

}  // namespace
}  // namespace fastmef
