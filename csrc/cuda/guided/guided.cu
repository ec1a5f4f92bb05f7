// guided_upsample_fuse at full size: the guide, and the fusion with logits that are linear in it.
//
//   g = sum_k Y(I_k) / K, F = sum_k softmax_k(a_k g + b_k) I_k
//
// where a and b have a smaller size and are enlarged bilinearly (pixel centres, repeated edges). A
// thread handles V neighbouring columns and all rows between two rows of a and b, which it reads
// and interpolates along x once. Positions are exact: they are integers, divided once.

#include "common/softmax.h"
#include "cuda/runtime/launch.h"
#include "cuda/runtime/layout.h"
#include "cuda/runtime/runs.h"
#include "cuda/runtime/storage.h"

namespace fastmef {

struct GuidedArgs {
  int64_t batch, height, width;  // of the exposures
  int64_t rows, columns;         // of the small images, at most those of the exposures
  int count;                     // exposures: up to eight
  float gray[3];                 // the weights of R, G and B in the guide
  Stack exposures;               // (B, K, 3, H, W)
  Stack fused;                   // (B, 1, 3, H, W)
  const float* slopes;           // (B, K, h, w), contiguous
  const float* offsets;          // (B, K, h, w), contiguous
  float* guide;                  // (B, 1, h, w), contiguous
};

namespace {

// The sum of a row of a small pixel: at most 46340 values, which integers hold exactly.
template <class S>
struct RowSum {
  using type = float;
};
template <>
struct RowSum<uint8_t> {
  using type = uint32_t;
};
template <>
struct RowSum<uint16_t> {
  using type = uint32_t;
};

// Dense rows have neighbouring columns at neighbouring addresses.
template <class S, bool Dense>
__global__ void __launch_bounds__(kThreads) guide_kernel(const GuidedArgs a) {
  using Sum = typename RowSum<S>::type;
  const unsigned height = a.height, width = a.width, rows = a.rows, columns = a.columns;
  const unsigned index = blockIdx.x * kThreads + threadIdx.x;
  const unsigned line = index / columns, column = index - line * columns;
  const unsigned batch = line / rows, row = line - batch * rows;
  if (batch >= a.batch) return;
  const unsigned top = row * height / rows;
  const unsigned bottom = ((row + 1) * height - 1) / rows + 1;
  const unsigned left = column * width / columns;
  const unsigned right = ((column + 1) * width - 1) / columns + 1;
  constexpr int kColumns = Dense ? 4 : 2;  // at a time; with more strides sm_90 would spill
  const int64_t step = Dense ? 1 : a.exposures.column;
  const S* image = static_cast<const S*>(a.exposures.data) + batch * a.exposures.plane +
                   static_cast<int64_t>(left) * step;
  float total = 0.0f;
  for (unsigned y = top; y < bottom; ++y) {
    const S* layer = image + y * a.exposures.row;
#pragma unroll 1
    for (int k = 0; k < a.count; ++k) {
      const S *red = layer, *green = red + a.exposures.channel, *blue = green + a.exposures.channel;
      Sum sums[3] = {};
#pragma unroll(kColumns)
      for (unsigned x = left; x < right; ++x) {
        sums[0] += to_number<Sum>(*red);
        sums[1] += to_number<Sum>(*green);
        sums[2] += to_number<Sum>(*blue);
        red += step;
        green += step;
        blue += step;
      }
#pragma unroll
      for (int c = 0; c < 3; ++c) total += a.gray[c] * static_cast<float>(sums[c]);
      layer += a.exposures.layer;
    }
  }
  a.guide[index] = total / static_cast<float>((bottom - top) * (right - left));
}

// Returns the first full-size row whose centre is at or below that of a small row.
__device__ __forceinline__ int first_row(const GuidedArgs& a, int row) {
  const unsigned height = a.height, rows = a.rows;
  if (row < 0) return 0;
  if (row >= a.rows) return height;
  return (height * (2 * row + 1) + rows - 1) / (2 * rows);
}

// The position of a full-size column between two small ones. It starts at column x and moves to the
// right by one column at a time: distances are integers, and only the first one needs a division.
class Between {
 public:
  __device__ __forceinline__ Between(const GuidedArgs& a, unsigned x)
      : columns_(a.columns),
        whole_(2 * static_cast<unsigned>(a.width)),
        inverse_(1.0f / static_cast<float>(whole_)) {
    const unsigned position = (2 * x + 1) * columns_ + whole_ / 2;
    next_ = position / whole_;
    rest_ = position - next_ * whole_;
  }

  __device__ __forceinline__ void move() {
    rest_ += 2 * columns_;
    if (rest_ >= whole_) {
      rest_ -= whole_;
      ++next_;
    }
  }

  __device__ __forceinline__ float of(const float* image) const {
    const float from = image[next_ > 0 ? next_ - 1 : 0];
    const float to = image[next_ < columns_ ? next_ : columns_ - 1];
    return from + static_cast<float>(rest_) * inverse_ * (to - from);
  }

 private:
  unsigned columns_, whole_;
  float inverse_;
  unsigned next_, rest_;  // the small column on the right, and the distance to the one before it
};

// Reads V pixels of a row of one exposure, which is planar or interleaved.
template <class S, int V, bool Interleaved>
__device__ __forceinline__ void read_pixels(const S* from, int64_t channel, float (&to)[3][V]) {
#pragma unroll
  for (int j = 0; j < 3; ++j) {
    float run[V];
    load_run(from + (Interleaved ? j * V : j * channel), run);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int i = j * V + v;
      to[Interleaved ? i % 3 : j][Interleaved ? i / 3 : v] = run[v];
    }
  }
}

// Writes V pixels of a row of the fused image, which is planar or interleaved.
template <class S, int V, bool Interleaved>
__device__ __forceinline__ void write_pixels(const float (&from)[3][V], int64_t channel, S* to) {
#pragma unroll
  for (int j = 0; j < 3; ++j) {
    float run[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int i = j * V + v;
      run[v] = from[Interleaved ? i % 3 : j][Interleaved ? i / 3 : v];
    }
    store_run(run, to + (Interleaved ? j * V : j * channel));
  }
}

template <class S, int K, int V, bool Interleaved>
__global__ void __launch_bounds__(kThreads) guided_kernel(const GuidedArgs a) {
  constexpr int most = K ? K : kMostExposures;
  const int count = K ? K : a.count;
  const unsigned runs = static_cast<unsigned>(a.width) / V;
  const unsigned intervals = static_cast<unsigned>(a.rows) + 1;
  const unsigned index = blockIdx.x * kThreads + threadIdx.x;
  const unsigned strip = index / runs, x = (index - strip * runs) * V;
  const int64_t batch = strip / intervals;
  const int above = static_cast<int>(strip % intervals) - 1;  // the small row above the strip
  if (batch >= a.batch) return;

  // Slopes and offsets at the small row above, and their change towards the small row below.
  float slope[most][V], slope_change[most][V], offset[most][V], offset_change[most][V];
  const int64_t upper = (above > 0 ? above : 0) * a.columns;
  const int64_t lower = (above + 1 < a.rows ? above + 1 : a.rows - 1) * a.columns;
  Between position(a, x);
#pragma unroll
  for (int v = 0; v < V; ++v) {
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (k < count) {
        const int64_t plane = (batch * count + k) * a.rows * a.columns;
        slope[k][v] = position.of(a.slopes + plane + upper);
        slope_change[k][v] = position.of(a.slopes + plane + lower) - slope[k][v];
        offset[k][v] = position.of(a.offsets + plane + upper);
        offset_change[k][v] = position.of(a.offsets + plane + lower) - offset[k][v];
      }
    }
    position.move();
  }

  const S* exposures =
      static_cast<const S*>(a.exposures.data) + batch * a.exposures.plane + x * a.exposures.column;
  S* fused = static_cast<S*>(a.fused.data) + batch * a.fused.plane + x * a.fused.column;
  const int begin = first_row(a, above), end = first_row(a, above + 1);
  // The distance to the small row above, of 2 * height to the next one; it fits into 32 bits.
  const unsigned height = a.height, rows = a.rows;
  unsigned distance = (2 * begin + 1) * rows - height * (2 * above + 1);
  const float inverse = 1.0f / static_cast<float>(2 * height);
  for (int y = begin; y < end; ++y, distance += 2 * rows) {
    float pixels[most][3][V];
    float guide[V] = {};
#pragma unroll
    for (int k = 0; k < most; ++k) {
      if (k < count) {
        read_pixels<S, V, Interleaved>(exposures + y * a.exposures.row + k * a.exposures.layer,
                                       a.exposures.channel, pixels[k]);
#pragma unroll
        for (int v = 0; v < V; ++v) {
#pragma unroll
          for (int c = 0; c < 3; ++c) guide[v] += a.gray[c] * pixels[k][c][v];
        }
      }
    }
    const float down = static_cast<float>(distance) * inverse;
    float sums[3][V] = {};
#pragma unroll
    for (int v = 0; v < V; ++v) {
      float weights[most];
#pragma unroll
      for (int k = 0; k < most; ++k) {
        weights[k] = k < count ? (slope[k][v] + down * slope_change[k][v]) * guide[v] +
                                     (offset[k][v] + down * offset_change[k][v])
                               : 0.0f;
      }
      softmax(weights, count);
#pragma unroll
      for (int k = 0; k < most; ++k) {
        if (k < count) {
#pragma unroll
          for (int c = 0; c < 3; ++c) sums[c][v] += weights[k] * pixels[k][c][v];
        }
      }
    }
    write_pixels<S, V, Interleaved>(sums, a.fused.channel, fused + y * a.fused.row);
  }
}

constexpr int64_t kLongestSide = 46340;  // 2 * 46340^2 fits into 32 bits

int64_t blocks_for(int64_t threads) {
  if (threads > UINT32_MAX - kThreads) {
    refuse("guided_upsample_fuse", "needs more than 2^32 threads");
  }
  return (threads + kThreads - 1) / kThreads;
}

void check_size(const char* operation, const GuidedArgs& a) {
  check_sizes(operation, {a.batch, a.count, 3, a.height, a.width});
  if (a.height > kLongestSide || a.width > kLongestSide) {
    refuse(operation, "takes sides of at most 46340 pixels, got " + std::to_string(a.height) +
                          " x " + std::to_string(a.width));
  }
  if (a.rows < 1 || a.columns < 1 || a.rows > a.height || a.columns > a.width) {
    refuse(operation, "the small size must be from 1 x 1 to " + std::to_string(a.height) + " x " +
                          std::to_string(a.width) + ", got " + std::to_string(a.rows) + " x " +
                          std::to_string(a.columns));
  }
}

template <class S>
void guide(const GuidedArgs& a, const DeviceAndStream& on) {
  const int64_t blocks = blocks_for(a.batch * a.rows * a.columns);
  if (a.exposures.column == 1) {
    launch("guided_guide", guide_kernel<S, true>, a, blocks, kThreads, on);
  } else {
    launch("guided_guide", guide_kernel<S, false>, a, blocks, kThreads, on);
  }
}

// Returns whether images can be accessed in runs of 4 pixels of `channels` values.
bool in_runs(const GuidedArgs& a, int channels) {
  return a.width % 4 == 0 && image_in_runs(a.exposures, 4, channels, a.height) &&
         image_in_runs(a.fused, 4, channels, a.height);
}

template <class S>
void fuse(const GuidedArgs& a, const DeviceAndStream& on) {
  const int64_t strips = a.batch * (a.rows + 1);
  if (a.count == 2 && in_runs(a, 1)) {
    launch("guided_fuse", guided_kernel<S, 2, 4, false>, a, blocks_for(strips * (a.width / 4)),
           kThreads, on);
  } else if (a.count == 2 && in_runs(a, 3)) {
    launch("guided_fuse", guided_kernel<S, 2, 4, true>, a, blocks_for(strips * (a.width / 4)),
           kThreads, on);
  } else {
    launch("guided_fuse", guided_kernel<S, 0, 1, false>, a, blocks_for(strips * a.width), kThreads,
           on);
  }
}

}  // namespace

// Computes the mean of the guide over the full-size pixels of each small pixel.
void guided_guide(const GuidedArgs& args, const DeviceAndStream& on) {
  const char* name = "guided_guide";
  check_size(name, args);
  Arrays arrays(name);
  arrays.read("exposures", args.exposures, {args.batch, args.count, 3, args.height, args.width});
  arrays.written("guide", dense(args.guide, kFloat32),
                 {1, 1, 1, 1, args.batch * args.rows * args.columns});
  dispatch_storage(name, args.exposures.dtype, [&](auto type) { guide<decltype(type)>(args, on); });
}

// Fuses with the logits slope * guide + offset, where slopes and offsets are enlarged.
void guided_fuse(const GuidedArgs& args, const DeviceAndStream& on) {
  const char* name = "guided_fuse";
  check_count(name, args.count);
  check_size(name, args);
  if (args.fused.dtype != args.exposures.dtype) {
    refuse(name, "the fused image must be of the type of the exposures");
  }
  const int64_t lines = args.batch * args.count * args.rows * args.columns;
  Arrays arrays(name);
  arrays.read("exposures", args.exposures, {args.batch, args.count, 3, args.height, args.width});
  arrays.read("slopes", dense(args.slopes, kFloat32), {1, 1, 1, 1, lines});
  arrays.read("offsets", dense(args.offsets, kFloat32), {1, 1, 1, 1, lines});
  arrays.written("fused", args.fused, {args.batch, 1, 3, args.height, args.width});
  dispatch_storage(name, args.exposures.dtype, [&](auto type) { fuse<decltype(type)>(args, on); });
}

}  // namespace fastmef

// The binding is not needed in the compiler's passes for a GPU.
#ifndef __CUDA_ARCH__

#include "cuda/runtime/binding.h"

namespace py = pybind11;

namespace fastmef {
namespace {

GuidedArgs guided_args(const Shape& shape, int64_t rows, int64_t columns,
                       const std::array<float, 3>& gray, const Stack& exposures) {
  GuidedArgs args{};
  args.batch = shape[0];
  args.count = static_cast<int>(shape[1]);
  args.height = shape[3];
  args.width = shape[4];
  args.rows = rows;
  args.columns = columns;
  for (int c = 0; c < 3; ++c) args.gray[c] = gray[c];
  args.exposures = exposures;
  return args;
}

void bound_guide(const DeviceAndStreamTuple& on, const Shape& shape, int64_t rows, int64_t columns,
                 const std::array<float, 3>& gray, const Stack& exposures, int64_t to) {
  GuidedArgs args = guided_args(shape, rows, columns, gray, exposures);
  args.guide = static_cast<float*>(pointer(to));
  const py::gil_scoped_release release;
  guided_guide(args, device_and_stream(on));
}

void bound_fuse(const DeviceAndStreamTuple& on, const Shape& shape, int64_t rows, int64_t columns,
                const std::array<float, 3>& gray, const Stack& exposures, int64_t slopes,
                int64_t offsets, const Stack& fused) {
  GuidedArgs args = guided_args(shape, rows, columns, gray, exposures);
  args.slopes = static_cast<const float*>(pointer(slopes));
  args.offsets = static_cast<const float*>(pointer(offsets));
  args.fused = fused;
  args.fused.layer = 0;  // the stride of an axis of size 1 is never used
  const py::gil_scoped_release release;
  guided_fuse(args, device_and_stream(on));
}

}  // namespace

FASTMEF_BINDING(m) {
  m.def("guided_guide", &bound_guide);
  m.def("guided_fuse", &bound_fuse);
}

}  // namespace fastmef

#endif
