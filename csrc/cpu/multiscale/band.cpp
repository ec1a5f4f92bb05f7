// One band of multiscale_fuse, and its adjoint w.r.t. the fused image of the next level:
//
//   F = E(F') + contrast sum_k gamma_k (J_k - E(J'_k)),   gamma_k = a_k / sum_j a_j,
//   a_k = share_k m_k (variance_k + floor)^2,             E = expand
//
// A task takes a block of columns and some rows. It reads each row of J once, keeps the luma of as
// many rows as a window has, and makes a row of F from scratch out of them. Everything is computed
// in the unit of F: for the finest level of integers that is one level of theirs. Compiled once for
// every instruction set.

#include "common/knee.h"
#include "common/math.h"
#include "cpu/multiscale/multiscale.h"
#include "cpu/multiscale/rows.h"
#include "cpu/multiscale/weights.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/storage.h"
#include "cpu/window/tiles.h"

namespace fastmef {
namespace {

constexpr int64_t kStrip = 64;   // rows
constexpr int kUsualRadius = 4;  // has loops of its own
constexpr double kGray[3] = {0.298936021293775, 0.587043074451121, 0.114020904255103};

// Columns of a block: even, and the luma of all rows of the windows stays in the second-level
// cache.
inline int64_t block_columns(const BandArgs& args) {
  const int64_t fit = 40960 / (args.count * (2 * args.radius + 1)) / 256 * 256;
  return most(256, least(fit, 2048));
}

template <int K>
struct Count {};

// gray (+)= coefficient * channel.
template <class S, class T>
void add_gray_as(const void* from, T coefficient, bool first, int64_t n, T* FASTMEF_RESTRICT gray) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(from);
  if (first) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) gray[x] = coefficient * to_number<T>(in[x]);
  } else {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) gray[x] += coefficient * to_number<T>(in[x]);
  }
}

template <class S, class T>
void gray_as(const void* red, const void* green, const void* blue, const T* coefficients, int64_t n,
             T* FASTMEF_RESTRICT gray) {
  const S* FASTMEF_RESTRICT r = static_cast<const S*>(red);
  const S* FASTMEF_RESTRICT g = static_cast<const S*>(green);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(blue);
  const T c0 = coefficients[0], c1 = coefficients[1], c2 = coefficients[2];
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    gray[x] = c0 * to_number<T>(r[x]) + c1 * to_number<T>(g[x]) + c2 * to_number<T>(b[x]);
  }
}

// out = (3 own + other) / 4 * scale.
template <class S, class T>
void between_as(const void* own, const void* other, T scale, int64_t n, T* FASTMEF_RESTRICT out) {
  const S* FASTMEF_RESTRICT a = static_cast<const S*>(own);
  const S* FASTMEF_RESTRICT b = static_cast<const S*>(other);
  const T near = T(0.75) * scale, far = T(0.25) * scale;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) out[x] = near * to_number<T>(a[x]) + far * to_number<T>(b[x]);
}

// The usual case in one loop: F of one channel from K exposures.
template <class S, class T, class O, int K>
void mix_row(const void* const* fine, T scale, const T* weights, int64_t distance, const T* above,
             int64_t n, const Knee<T>& knee, O* FASTMEF_RESTRICT out) {
  const S* j[K];
  const T *w[K], *below[K];
  for (int k = 0; k < K; ++k) {
    j[k] = static_cast<const S*>(fine[k]);
    w[k] = weights + k * distance;
    below[k] = above + (k + 1) * distance;
  }
  const Knee<T> limits = knee;
  FASTMEF_VECTORIZE
  for (int64_t x = 0; x < n; ++x) {
    T sum = above[x];
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) sum += w[k][x] * (scale * to_number<T>(j[k][x]) - below[k][x]);
    from_number(bend(sum, limits), out[x]);
  }
}

template <class S, class T, int K>
void mix_finest_as(Count<K>, const void* const* fine, T scale, const T* weights, int64_t distance,
                   const T* above, int64_t n, const Knee<T>& knee, void* out) {
  mix_row<S, T, S, K>(fine, scale, weights, distance, above, n, knee, static_cast<S*>(out));
}

template <class S, class T, int K>
void mix_inner_as(Count<K>, const void* const* fine, T scale, const T* weights, int64_t distance,
                  const T* above, int64_t n, const Knee<T>& knee, void* out) {
  mix_row<S, T, T, K>(fine, scale, weights, distance, above, n, knee, static_cast<T*>(out));
}

// sum += weight * (fine - below), for pixels with a mask above 0.
template <class S, class T>
void add_band_as(const void* fine, T scale, const T* FASTMEF_RESTRICT weight,
                 const T* FASTMEF_RESTRICT below, const T* FASTMEF_RESTRICT mask, int64_t n,
                 T* FASTMEF_RESTRICT sum) {
  const S* FASTMEF_RESTRICT in = static_cast<const S*>(fine);
  if (!mask) {
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < n; ++x) sum[x] += weight[x] * (scale * to_number<T>(in[x]) - below[x]);
    return;
  }
  for (int64_t x = 0; x < n; ++x) {
    if (mask[x] > 0) sum[x] += weight[x] * (scale * to_number<T>(in[x]) - below[x]);
  }
}

template <class T>
class Band {
 public:
  Band(const BandArgs& args, void* scratch)
      : args_(args),
        arena_(scratch),
        taps_(2 * args.radius + 1),
        stride_(round_up(block_columns(args) + 2 * args.radius) + kLane),
        unit_(args.finest ? highest_of(args.fine.dtype) : 1.0),
        knee_(make_knee<T>(args.low, args.high, unit_)) {
    const int64_t count = args.count;
    gray_ = arena_.take<T>(count * taps_ * stride_);
    rows_ = arena_.take<const T*>(taps_);
    mean_ = arena_.take<T>(stride_);
    deviation_ = arena_.take<T>(stride_);
    sum_ = arena_.take<T>(stride_);
    squares_ = arena_.take<T>(stride_);
    weights_ = arena_.take<T>(count * stride_);
    total_ = arena_.take<T>(stride_);
    between_ = arena_.take<T>(2 * stride_);
    above_ = arena_.take<T>((count + 1) * stride_);
    fine_ = arena_.take<const void*>(count);
    if (!dense()) split_ = arena_.take<char>(count * args.channels * taps_ * channel_bytes());
    if (args.fused.column != 1) packed_ = arena_.take<char>(args.channels * stride_ * 8);
    if (masked()) {
      mask_ = arena_.take<T>(count * taps_ * stride_);
      mask_rows_ = arena_.take<const T*>(taps_);
      coarse_mask_ = arena_.take<T>(4 * stride_);
      plain_total_ = arena_.take<T>(stride_);
      moments_ = arena_.take<double>(3 * stride_);
    }
  }

  size_t bytes() const { return arena_.used(); }

  void run(int64_t b, int64_t begin, int64_t end, int64_t x, int64_t n) {
    b_ = b, x_ = x, n_ = n;
    left_ = most(0, x - args_.radius);
    right_ = least(args_.width, x + n + args_.radius);
    int64_t next = most(0, begin - args_.radius);
    for (int64_t y = begin; y < end; ++y) {
      for (; next <= y + args_.radius && next < args_.height; ++next) take_in(next);
      make_weights(y);
      const Between between(y, (args_.height + 1) / 2);
      for (int64_t c = 0; c < args_.channels; ++c) {
        expand(args_.fused_coarse, 0, c, between, unit_, above_);
        for (int64_t k = 0; k < args_.count; ++k) {
          const double scale = unit_ / highest_of(args_.coarse.dtype);
          expand(args_.coarse, k, c, between, scale, above_ + (k + 1) * stride_);
        }
        mix(y, c);
      }
      if (packed_) unpack(y);
    }
  }

 private:
  bool dense() const { return args_.fine.column == 1; }
  bool masked() const { return args_.validity.data; }

  int64_t channel_bytes() const { return stride_ * size_of(args_.fine.dtype); }

  static int64_t at(const Stack& s, int64_t b, int64_t k, int64_t c, int64_t y, int64_t x) {
    return b * s.plane + k * s.layer + c * s.channel + y * s.row + x * s.column;
  }

  T* gray_row(int64_t k, int64_t y) { return gray_ + (y % taps_ * args_.count + k) * stride_; }
  T* mask_row(int64_t k, int64_t y) { return mask_ + (y % taps_ * args_.count + k) * stride_; }

  // The channel of an exposure in a row that was taken in, from column left_ on.
  char* channel(int64_t k, int64_t c, int64_t y) {
    if (dense()) return address(args_.fine, at(args_.fine, b_, k, c, y, left_));
    return split_ + ((y % taps_ * args_.count + k) * args_.channels + c) * channel_bytes();
  }

  // Rows of grey begin `radius` columns before the block.
  void take_in(int64_t y) {
    const Stack& fine = args_.fine;
    const int64_t n = right_ - left_, begin = x_ - args_.radius, end = x_ + n_ + args_.radius;
    for (int64_t k = 0; k < args_.count; ++k) {
      if (three_neighbours(fine, args_.channels)) {
        split_three(fine, at(fine, b_, k, 0, y, left_), n, channel(k, 0, y), channel(k, 1, y),
                    channel(k, 2, y));
      } else if (!dense()) {
        for (int64_t c = 0; c < args_.channels; ++c) {
          gather(fine, at(fine, b_, k, c, y, left_), n, channel(k, c, y));
        }
      }
      T* gray = gray_row(k, y) + (left_ - begin);
      make_gray(k, y, n, gray);
      if (masked()) {
        const Stack& validity = args_.validity;
        T* mask = mask_row(k, y) + (left_ - begin);
        read(validity, at(validity, b_, k, 0, y, left_), validity.column, n, mask);
        for (int64_t i = 0; i < n; ++i) gray[i] = mask[i] > 0 ? gray[i] : T(0);
        repeat_ends(mask_row(k, y), begin, end, left_, right_);
      }
      repeat_ends(gray_row(k, y), begin, end, left_, right_);
    }
  }

  void make_gray(int64_t k, int64_t y, int64_t n, T* gray) {
    const DType dtype = args_.fine.dtype;
    if (args_.channels == 3) {
      T coefficients[3];
      for (int c = 0; c < 3; ++c) coefficients[c] = static_cast<T>(kGray[c] / highest_of(dtype));
      to_gray(channel(k, 0, y), channel(k, 1, y), channel(k, 2, y), coefficients, n, gray);
      return;
    }
    const T share = static_cast<T>(1 / (highest_of(dtype) * args_.channels));
    for (int64_t c = 0; c < args_.channels; ++c) {
      add_gray(channel(k, c, y), share, c == 0, n, gray);
    }
  }

  void to_gray(const void* r, const void* g, const void* b, const T* coefficients, int64_t n,
               T* gray) {
    FASTMEF_FOR_STORAGE(args_.fine.dtype, gray_as, r, g, b, coefficients, n, gray)
  }

  void add_gray(const void* in, T share, bool first, int64_t n, T* gray){
      FASTMEF_FOR_STORAGE(args_.fine.dtype, add_gray_as, in, share, first, n, gray)}

  T share_of(int64_t k) {
    if (!args_.shares.data) return 1;
    T share;
    read(args_.shares, at(args_.shares, b_, k, 0, 0, 0), 1, 1, &share);
    return share;
  }

  void make_variance(int64_t k, int64_t y, T* variance) {
    for (int64_t j = 0; j < taps_; ++j) {
      const int64_t row = clamp_index(y - args_.radius + j, args_.height);
      rows_[j] = gray_row(k, row);
      if (masked()) mask_rows_[j] = mask_row(k, row);
    }
    const int64_t wide = n_ + 2 * args_.radius;
    if (masked()) {
      masked_variance(rows_, mask_rows_, args_.radius, n_, moments_, moments_ + stride_,
                      moments_ + 2 * stride_, variance);
    } else if (args_.radius == kUsualRadius) {
      column_moments_of_nine(rows_, wide, mean_, deviation_);
      row_variance_of_nine(mean_, deviation_, n_, variance, sum_, squares_);
    } else {
      column_moments(rows_, args_.radius, wide, mean_, deviation_, sum_, squares_);
      row_variance(mean_, deviation_, args_.radius, n_, variance, sum_, squares_);
    }
  }

  void make_weights(int64_t y) {
    const T floor = static_cast<T>(args_.floor), contrast = static_cast<T>(args_.contrast);
    T highest_share = 0;
    for (int64_t k = 0; k < args_.count; ++k) highest_share = larger(highest_share, share_of(k));
    const bool shared = highest_share > 0;  // shares that leave nothing are ignored
    for (int64_t k = 0; k < args_.count; ++k) {
      T* activity = weights_ + k * stride_;
      make_variance(k, y, activity);
      if (masked()) {
        activity_row(activity, floor, T(1), k == 0, n_, total_);
      } else {
        activity_row(activity, floor, shared ? share_of(k) : T(1), k == 0, n_, total_);
      }
    }
    if (masked()) leave_out(y);
    T* FASTMEF_RESTRICT inverse = total_;
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n_; ++i) inverse[i] = contrast / inverse[i];
    for (int64_t k = 0; k < args_.count; ++k) {
      T* FASTMEF_RESTRICT weight = weights_ + k * stride_;
      FASTMEF_VECTORIZE
      for (int64_t i = 0; i < n_; ++i) weight[i] *= inverse[i];
    }
  }

  // Validity and shares enter the activity; where shares leave nothing they are ignored.
  void leave_out(int64_t y) {
    for (int64_t i = 0; i < n_; ++i) total_[i] = plain_total_[i] = 0;
    for (int64_t k = 0; k < args_.count; ++k) {
      const T* mask = mask_row(k, y) + args_.radius;
      T* activity = weights_ + k * stride_;
      const T share = share_of(k);
      for (int64_t i = 0; i < n_; ++i) {
        activity[i] *= mask[i];
        plain_total_[i] += activity[i];
        total_[i] += share * activity[i];
      }
    }
    for (int64_t k = 0; k < args_.count; ++k) {
      T* activity = weights_ + k * stride_;
      const T share = share_of(k);
      for (int64_t i = 0; i < n_; ++i) activity[i] *= total_[i] > 0 ? share : T(1);
    }
    for (int64_t i = 0; i < n_; ++i) total_[i] = total_[i] > 0 ? total_[i] : plain_total_[i];
  }

  // A row of the next level at the place of a fine one, as wide as the block needs it.
  void between_rows(const Stack& stack, int64_t k, int64_t c, const Between& between, double scale,
                    T* out) {
    const int64_t width = (args_.width + 1) / 2, begin = x_ / 2 - 1, end = (x_ + n_ + 1) / 2 + 1;
    const int64_t first = most(0, begin), last = least(width, end);
    const int64_t own = at(stack, b_, k, c, between.own, first);
    const int64_t other = at(stack, b_, k, c, between.other, first);
    if (stack.column == 1) {
      combine(stack.dtype, address(stack, own), address(stack, other), static_cast<T>(scale),
              last - first, out + first - begin);
    } else {
      T* row = squares_;
      read(stack, own, stack.column, last - first, sum_);
      read(stack, other, stack.column, last - first, row);
      between_as<T>(sum_, row, static_cast<T>(scale), last - first, out + first - begin);
    }
    repeat_ends(out, begin, end, first, last);
  }

  static void combine(DType dtype, const void* own, const void* other, T scale, int64_t n, T* out) {
    FASTMEF_FOR_STORAGE(dtype, between_as, own, other, scale, n, out)
  }

  void expand(const Stack& stack, int64_t k, int64_t c, const Between& between, double scale,
              T* out) {
    const int64_t pairs = (n_ + 1) / 2;
    if (!masked() || &stack == &args_.fused_coarse) {
      between_rows(stack, k, c, between, scale, between_);
      expand_row(between_ + 1, pairs, out);
      return;
    }
    // Normalised: what is not valid enters neither side of the ratio.
    T* mask = coarse_mask_;
    T* expanded = coarse_mask_ + 2 * stride_;
    masked_between_rows(k, c, between, scale, between_, mask);
    expand_row(between_ + 1, pairs, out);
    expand_row(mask + 1, pairs, expanded);
    for (int64_t i = 0; i < n_; ++i) out[i] = expanded[i] > 0 ? out[i] / expanded[i] : T(0);
  }

  void masked_between_rows(int64_t k, int64_t c, const Between& between, double scale, T* out,
                           T* mask) {
    const int64_t width = (args_.width + 1) / 2, begin = x_ / 2 - 1, end = (x_ + n_ + 1) / 2 + 1;
    const int64_t first = most(0, begin), last = least(width, end), n = last - first;
    for (int64_t i = 0; i < n; ++i) out[first - begin + i] = mask[first - begin + i] = 0;
    const Part both[2] = {{between.own, 0.75}, {between.other, 0.25}};
    for (const Part& part : both) {
      const Stack &images = args_.coarse, &validity = args_.coarse_validity;
      read(images, at(images, b_, k, c, part.row, first), images.column, n, sum_);
      read(validity, at(validity, b_, k, 0, part.row, first), validity.column, n, squares_);
      const T share = static_cast<T>(part.share);
      for (int64_t i = 0; i < n; ++i) {
        const T m = share * squares_[i];
        mask[first - begin + i] += m;
        if (m > 0) out[first - begin + i] += m * (static_cast<T>(scale) * sum_[i]);
      }
    }
    repeat_ends(out, begin, end, first, last);
    repeat_ends(mask, begin, end, first, last);
  }

  struct Part {
    int64_t row;
    double share;
  };

  void mix(int64_t y, int64_t c) {
    const T scale = static_cast<T>(unit_ / highest_of(args_.fine.dtype));
    const int64_t skip = (x_ - left_) * size_of(args_.fine.dtype);
    for (int64_t k = 0; k < args_.count; ++k) fine_[k] = channel(k, c, y) + skip;
    void* out = packed_ ? packed_ + c * stride_ * 8
                        : address(args_.fused, at(args_.fused, b_, 0, c, y, x_));
    if (!masked() && !args_.slope.data) {
      if (args_.count == 2) return mix_few(Count<2>(), scale, out);
      if (args_.count == 3) return mix_few(Count<3>(), scale, out);
    }
    T* sum = above_;
    for (int64_t k = 0; k < args_.count; ++k) {
      const T* mask = masked() ? mask_row(k, y) + args_.radius : nullptr;
      add_band(fine_[k], scale, weights_ + k * stride_, above_ + (k + 1) * stride_, mask, sum);
    }
    if (args_.slope.data) {
      const Knee<T> knee = knee_;
      for (int64_t i = 0; i < n_; ++i) sum_[i] = bend_slope(sum[i], knee);
      write(args_.slope, at(args_.slope, b_, 0, c, y, x_), args_.slope.column, n_, sum_);
    }
    const Knee<T> knee = knee_;
    FASTMEF_VECTORIZE
    for (int64_t i = 0; i < n_; ++i) sum[i] = bend(sum[i], knee);
    store(sum, out);
  }

  template <int K>
  void mix_few(Count<K> count, T scale, void* out) {
    if (args_.finest) {
      FASTMEF_FOR_STORAGE(args_.fine.dtype, mix_finest_as, count, fine_, scale, weights_, stride_,
                          above_, n_, knee_, out)
    } else {
      FASTMEF_FOR_STORAGE(args_.fine.dtype, mix_inner_as, count, fine_, scale, weights_, stride_,
                          above_, n_, knee_, out)
    }
  }

  void add_band(const void* fine, T scale, const T* weight, const T* below, const T* mask, T* sum) {
    FASTMEF_FOR_STORAGE(args_.fine.dtype, add_band_as, fine, scale, weight, below, mask, n_, sum)
  }

  void store(const T* in, void* out) {
    FASTMEF_FOR_STORAGE(args_.fused.dtype, write_as, in, 1, n_, out)
  }

  void unpack(int64_t y) {
    const Stack& fused = args_.fused;
    if (three_neighbours(fused, args_.channels)) {
      join_three(fused, at(fused, b_, 0, 0, y, x_), n_, packed_, packed_ + stride_ * 8,
                 packed_ + 2 * stride_ * 8);
      return;
    }
    for (int64_t c = 0; c < args_.channels; ++c) {
      scatter(fused, at(fused, b_, 0, c, y, x_), n_, packed_ + c * stride_ * 8);
    }
  }

  const BandArgs& args_;
  Arena arena_;
  const int64_t taps_, stride_;
  const double unit_;
  const Knee<T> knee_;
  int64_t b_ = 0, x_ = 0, n_ = 0, left_ = 0, right_ = 0;
  T *gray_, *mean_, *deviation_, *sum_, *squares_, *weights_, *total_, *between_, *above_;
  T *mask_ = nullptr, *coarse_mask_ = nullptr, *plain_total_ = nullptr;
  const T **rows_, **mask_rows_ = nullptr;
  const void** fine_;
  char *split_ = nullptr, *packed_ = nullptr;
  double* moments_ = nullptr;
};

int64_t parts(int64_t size, int64_t part) { return (size + part - 1) / part; }

template <class T>
void band_task(void* context, int64_t index, void* scratch) {
  const BandArgs& args = *static_cast<const BandArgs*>(context);
  const int64_t strips = parts(args.row_end - args.row_begin, kStrip);
  const int64_t columns = block_columns(args), blocks = parts(args.width, columns);
  const int64_t x = index % blocks * columns;
  const int64_t y = args.row_begin + index / blocks % strips * kStrip;
  Band<T>(args, scratch)
      .run(index / blocks / strips, y, least(y + kStrip, args.row_end), x,
           least(columns, args.width - x));
}

template <class T>
void band(const BandArgs& args) {
  const int64_t tasks = args.batch * parts(args.row_end - args.row_begin, kStrip) *
                        parts(args.width, block_columns(args));
  parallel_for(tasks, args.threads, Band<T>(args, nullptr).bytes(), band_task<T>,
               const_cast<BandArgs*>(&args));
}

// A coarse row gathers the four fine rows that it was expanded to; a border row counts for the one
// that it was repeated as.
template <class T>
class Backward {
 public:
  Backward(const BandBackwardArgs& args, void* scratch) : args_(args), arena_(scratch) {
    stride_ = round_up(args.width + 4);
    sum_ = arena_.take<T>(stride_);
    grad_ = arena_.take<T>(stride_);
    slope_ = arena_.take<T>(stride_);
    out_ = arena_.take<T>(stride_);
  }

  size_t bytes() const { return arena_.used(); }

  void run(int64_t b, int64_t c, int64_t y) {
    const int64_t height = args_.height, width = args_.width;
    const int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
    T* FASTMEF_RESTRICT sum = sum_ + 1;  // a place before and three after stay 0
    for (int64_t x = -1; x < width + 3; ++x) sum[x] = 0;
    for (int64_t j = 0; j < 4; ++j) {
      const int64_t row = 2 * y - 1 + j;
      if (row < 0 || row >= height) continue;
      const T* FASTMEF_RESTRICT grad = row_of(b, c, row);
      const T share = static_cast<T>(share_of(j, y, rows, row));
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < width; ++x) sum[x] += share * grad[x];
    }
    T* FASTMEF_RESTRICT out = out_;
    FASTMEF_VECTORIZE
    for (int64_t x = 0; x < columns; ++x) {
      out[x] =
          T(0.75) * (sum[2 * x] + sum[2 * x + 1]) + T(0.25) * (sum[2 * x - 1] + sum[2 * x + 2]);
    }
    out[0] += T(0.25) * sum[0];
    if (width % 2 == 0) out[columns - 1] += T(0.25) * sum[width - 1];
    const Stack& to = args_.grad_coarse;
    write(to, at(to, b, c, y), to.column, columns, out_);
  }

 private:
  static int64_t at(const Stack& s, int64_t b, int64_t c, int64_t y) {
    return b * s.plane + c * s.channel + y * s.row;
  }

  // The weight of a coarse row in the j-th of its fine rows.
  static double share_of(int64_t j, int64_t y, int64_t rows, int64_t row) {
    if (j == 0 || j == 3) return 0.25;
    const bool repeated = (y == 0 && row == 0) || (y == rows - 1 && row == 2 * y + 1);
    return repeated ? 1.0 : 0.75;
  }

  const T* row_of(int64_t b, int64_t c, int64_t row) {
    read(args_.grad, at(args_.grad, b, c, row), args_.grad.column, args_.width, grad_);
    if (args_.slope.data) {
      read(args_.slope, at(args_.slope, b, c, row), args_.slope.column, args_.width, slope_);
      FASTMEF_VECTORIZE
      for (int64_t x = 0; x < args_.width; ++x) grad_[x] *= slope_[x];
    }
    return grad_;
  }

  const BandBackwardArgs& args_;
  Arena arena_;
  int64_t stride_;
  T *sum_, *grad_, *slope_, *out_;
};

template <class T>
void backward_task(void* context, int64_t index, void* scratch) {
  const BandBackwardArgs& args = *static_cast<const BandBackwardArgs*>(context);
  const int64_t rows = (args.height + 1) / 2, strips = parts(rows, kStrip);
  const int64_t plane = index / strips, begin = index % strips * kStrip;
  Backward<T> backward(args, scratch);
  for (int64_t y = begin; y < least(begin + kStrip, rows); ++y) {
    backward.run(plane / args.channels, plane % args.channels, y);
  }
}

template <class T>
void band_backward(const BandBackwardArgs& args) {
  const int64_t tasks = args.batch * args.channels * parts((args.height + 1) / 2, kStrip);
  parallel_for(tasks, args.threads, Backward<T>(args, nullptr).bytes(), backward_task<T>,
               const_cast<BandBackwardArgs*>(&args));
}

}  // namespace

namespace FASTMEF_ISA {

void blend_band(const BandArgs& args, bool in_double) {
  in_double ? band<double>(args) : band<float>(args);
}

void blend_band_backward(const BandBackwardArgs& args, bool in_double) {
  in_double ? band_backward<double>(args) : band_backward<float>(args);
}

}  // namespace FASTMEF_ISA
}  // namespace fastmef
