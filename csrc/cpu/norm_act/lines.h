// Rows of channels-last images that are normalised, and pooled, upsampled or given a border.
//
// A line is a row of x, or two of them for a pool. With an odd height the last line has one row, of
// which no maximum is taken.
#pragma once

#include "cpu/norm_act/bilinear.h"
#include "cpu/norm_act/channels.h"
#include "cpu/norm_act/frame.h"
#include "cpu/norm_act/pool.h"
#include "cpu/runtime/arena.h"

namespace fastmef {
namespace {

// S is the storage type of the images.
template <class S>
class Lines {
 public:
  Lines(const NormActArgs& args, const Channels& channels, Arena& arena)
      : args_(args), channels_(channels), values_(args.width * args.channels) {
    const int64_t row_with_margin = is_used(args) ? values_ + 2 * args.channels : 0;
    for (float*& row : rows_) row = arena.take<float>(row_with_margin);
    wide_ = arena.take<float>(args.then == kBilinear ? 2 * (values_ + args.channels) : 0);
  }

  // Returns whether lines are needed: without a next step pixels are not divided into rows.
  static bool is_used(const NormActArgs& args) { return args.then != kSame || args.margin; }

  // Returns the number of lines.
  static int64_t count(const NormActArgs& args) { return args.batch * per_image(args); }

  // Writes y if it is wanted, and what follows it, for the lines in [begin, end).
  void forward(int64_t begin, int64_t end) const {
    const Frame<S> after = frame(args_.after);
    for (int64_t line = begin; line < end; ++line) {
      const int64_t b = line / per_image(args_), y = line % per_image(args_);
      if (args_.then == kPool) {
        pool(after, b, y);
      } else if (args_.then == kBilinear) {
        upsample(after, b, y, line == begin);
      } else {
        channels_.forward(x(b, y), values_, after.row(b, y));
        after.repeat(b, y);
      }
    }
  }

  // Calls run(offset, n, grad_y) for runs of n values of a line, with offsets into x.
  template <class Run>
  void backward(int64_t line, const Run& run) const {
    const Frame<S> grad = frame(args_.grad_after);
    const int64_t b = line / per_image(args_), y = line % per_image(args_);
    if (args_.then == kPool) {
      pool_backward(grad, b, y, run);
    } else if (args_.then == kBilinear) {
      const float* grad_y = upsample_backward(grad, b, y);
      if (args_.after.data) {
        write_as<S>(grad_y, 1, values_, static_cast<S*>(args_.after.data) + offset(b, y));
      }
      run(offset(b, y), values_, grad_y);
    } else {
      border_backward(grad, b, y, run);
    }
  }

 private:
  static int64_t per_image(const NormActArgs& args) {
    return args.then == kPool ? (args.height + 1) / 2 : args.height;
  }

  Frame<S> frame(const Stack& stack) const {
    return {static_cast<S*>(stack.data), size_after(args_.then, args_.height),
            size_after(args_.then, args_.width), args_.channels, args_.margin};
  }

  int64_t offset(int64_t b, int64_t y) const { return (b * args_.height + y) * values_; }
  const S* x(int64_t b, int64_t y) const {
    return static_cast<const S*>(args_.x.data) + offset(b, y);
  }

  void pool(const Frame<S>& after, int64_t b, int64_t cell) const {
    const int64_t first = 2 * cell, last = least(first + 2, args_.height);
    if (args_.out.data) {
      S* y = static_cast<S*>(args_.out.data) + offset(b, first);
      channels_.forward(x(b, first), (last - first) * values_, y);
    }
    if (cell == after.height) return;
    for (int64_t row = first; row < last; ++row) {
      channels_.forward(x(b, row), values_, rows_[row - first]);
    }
    pool_row(rows_[0], rows_[1], after.width, args_.channels, after.row(b, cell));
    after.repeat(b, cell);
  }

  template <class Run>
  void pool_backward(const Frame<S>& grad, int64_t b, int64_t cell, const Run& run) const {
    const int64_t first = 2 * cell, rows = least(2, args_.height - first);
    for (int64_t row = 0; row < rows; ++row) {
      channels_.forward(x(b, first + row), values_, rows_[row]);
      if (cell < grad.height && args_.width % 2 == 0) continue;
      // Pixels that belong to no cell.
      memset(rows_[2 + row], 0, static_cast<size_t>(values_) * sizeof(float));
    }
    if (cell < grad.height) {
      pool_row_backward(rows_[0], rows_[1], grad.folded(b, cell, rows_[4]), grad.width,
                        args_.channels, rows_[2], rows_[3]);
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = offset(b, first + row);
      if (args_.grad_y.data) {
        add_row(static_cast<const S*>(args_.grad_y.data) + at, values_, rows_[2 + row]);
      }
      run(at, values_, static_cast<const float*>(rows_[2 + row]));
    }
  }

  // Writes the two rows that row y is upsampled to. The values of the rows above, at and below it
  // are kept for the next call; `is_first` says that there was none.
  void upsample(const Frame<S>& after, int64_t b, int64_t y, bool is_first) const {
    const int64_t above = most(y - 1, 0), below = least(y + 1, args_.height - 1);
    for (int64_t row = is_first || y == 0 ? above : below; row <= below; ++row) {
      channels_.forward(x(b, row), values_, rows_[row % 3]);
    }
    for (int64_t side = 0; side < 2; ++side) {
      mix(rows_[y % 3], rows_[(side ? below : above) % 3], values_, rows_[3]);
      widen(rows_[3], args_.width, args_.channels, after.row(b, 2 * y + side));
      after.repeat(b, 2 * y + side);
    }
  }

  // Returns dL/dy of a row, from the gradient w.r.t. the upsampled image.
  float* upsample_backward(const Frame<S>& grad, int64_t b, int64_t y) const {
    const int64_t begin = args_.margin * args_.channels;
    const int64_t above = most(2 * y - 1, 0), below = least(2 * y + 2, grad.height - 1);
    gather_rows(grad.row(b, above) - begin, grad.row(b, 2 * y) - begin,
                grad.row(b, 2 * y + 1) - begin, grad.row(b, below) - begin, 2 * (values_ + begin),
                wide_);
    // The border row is repeated once in the margin.
    if (y == 0) grad.add_margins_across(b, 0, wide_);
    if (y == args_.height - 1) grad.add_margins_across(b, grad.height - 1, wide_);
    gather_columns(grad.fold_ends(wide_), args_.width, args_.channels, rows_[0]);
    return rows_[0];
  }

  // Passes on the rows of the gradient where they are; only pixels at the border are copied.
  template <class Run>
  void border_backward(const Frame<S>& grad, int64_t b, int64_t y, const Run& run) const {
    const int64_t c = args_.channels, at = offset(b, y);
    if (y == 0 || y == args_.height - 1 || args_.width < 3) {
      return run(at, values_, grad.folded(b, y, rows_[0]));
    }
    const S* row = grad.row(b, y);
    const int64_t last = values_ - c;
    float* ends = rows_[0];
    read_as<S>(row, 1, c, ends);
    read_as<S>(row + last, 1, c, ends + c);
    add_row(row - c, c, ends);
    add_row(row + values_, c, ends + c);
    run(at, c, static_cast<const float*>(ends));
    run(at + c, last - c, row + c);
    run(at + last, c, static_cast<const float*>(ends + c));
  }

  const NormActArgs& args_;
  const Channels& channels_;
  const int64_t values_;  // of a row
  float* rows_[5];        // with margins
  float* wide_;           // an upsampled row with margins
};

}  // namespace
}  // namespace fastmef
