// The gradient w.r.t. the weights. Tasks are divided by shapes only, and their sums are added in
// order, so that results are bit-identical for any number of threads.
//
// This file is compiled once for every instruction set, whose name is FASTMEF_ISA.

#include "cpu/conv3x3/conv3x3.h"
#include "cpu/conv3x3/product.h"
#include "cpu/conv3x3/tiles.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/buffer.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

constexpr int64_t kBlockValues = 98304;  // of transformed inputs: 384 KB
constexpr int64_t kFewestTiles = 48;     // of a block
constexpr int64_t kMostSums = 2097152;   // of all chunks: 8 MB
constexpr int64_t kTasks = 64;           // at most

class WeightGradient {
 public:
  explicit WeightGradient(const Conv3x3Args& args)
      : args_(args),
        tiles_(args),
        block_(most(kBlockValues / kPositions / args.in_channels, kFewestTiles)),
        panels_(divide_up(args.out_channels, kPanel)),
        size_(kPositions * args.in_channels * args.out_channels),
        chunks_(most(
            1, least(least(kMostSums / size_, kTasks / panels_), divide_up(tiles_.count, block_)))),
        tiles_of_chunk_(divide_up(tiles_.count, chunks_)),
        sums_(chunks_ * size_) {}

  void run() {
    const Task chunk = [](void* context, int64_t task, void* scratch) {
      const auto& self = *static_cast<const WeightGradient*>(context);
      self.run_chunk(task / self.panels_, task % self.panels_ * kPanel, scratch);
    };
    Arena counting(nullptr);
    carve(counting);
    parallel_for(chunks_ * panels_, args_.threads, counting.used(), chunk, this);
    const Task merge = [](void* context, int64_t task, void*) {
      static_cast<const WeightGradient*>(context)->merge(task);
    };
    parallel_for(args_.out_channels / kChannelGroup, args_.threads, 0, merge, this);
  }

 private:
  struct Scratch {
    float *copy, *inputs, *gradients;
  };

  Scratch carve(Arena& arena) const {
    return {arena.take<float>(16 * most(args_.in_channels, kPanel)),
            arena.take<float>(kPositions * (block_ * args_.in_channels + kGap)),
            arena.take<float>(kPositions * (block_ * kPanel + kGap))};
  }

  // Returns the sums of a chunk and panel: position i of input channel c has panel_width values.
  float* sums(int64_t chunk, int64_t panel) const {
    return sums_.data + chunk * size_ + kPositions * args_.in_channels * panel;
  }

  void run_chunk(int64_t chunk, int64_t panel, void* memory) const {
    Arena arena(memory);
    const Scratch scratch = carve(arena);
    const int64_t channels = args_.in_channels, width = panel_width(panel, args_.out_channels);
    float* out = sums(chunk, panel);
    memset(out, 0, static_cast<size_t>(kPositions * channels * width) * sizeof(float));
    const int64_t last = least((chunk + 1) * tiles_of_chunk_, tiles_.count);
    for (int64_t begin = chunk * tiles_of_chunk_; begin < last; begin += block_) {
      const int64_t end = least(begin + block_, last), count = end - begin;
      const int64_t in_plane = count * channels + kGap, plane = count * width + kGap;
      tiles_.transform_inputs(begin, end, scratch.copy, scratch.inputs, in_plane, count);
      tiles_.transform_gradients(begin, end, panel, width, scratch.copy, scratch.gradients, plane);
      for (int i = 0; i < kPositions; ++i) {
        multiply_panel(scratch.inputs + i * in_plane, scratch.gradients + i * plane, count, width,
                       out + i * channels * width);
      }
    }
  }

  void multiply_panel(const float* inputs, const float* gradients, int64_t count, int64_t width,
                      float* out) const {
    switch (width / kVec) {
#if defined(__AVX512F__)
      case 1: return multiply_rows<16, 1>(inputs, gradients, count, out);
      case 2: return multiply_rows<8, 2>(inputs, gradients, count, out);
      case 3: return multiply_rows<4, 3>(inputs, gradients, count, out);
      default: return multiply_rows<4, 4>(inputs, gradients, count, out);
#elif defined(__AVX__)
      default: return multiply_rows<4, 2>(inputs, gradients, count, out);
#else
      default: return multiply_rows<2, 4>(inputs, gradients, count, out);
#endif
    }
  }

  template <int Rows, int Vectors>
  void multiply_rows(const float* inputs, const float* gradients, int64_t count, float* out) const {
    static_assert(kChannelGroup % Rows == 0, "there is no other number of channels");
    const int64_t channels = args_.in_channels;
    for (int64_t c = 0; c < channels; c += Rows) {
      const float* left = inputs + c / kChannelGroup * kChannelGroup * count + c % kChannelGroup;
      multiply<true, Rows, Vectors, 1, kChannelGroup>({left, 1, 0}, count, gradients,
                                                      out + c * Vectors * kVec);
    }
  }

  // Adds up the chunks of a group of output channels, in their order, and writes G' U G.
  void merge(int64_t group) const {
    const int64_t first = group * kChannelGroup, panel = first / kPanel * kPanel;
    const int64_t width = panel_width(panel, args_.out_channels);
    const Stack& w = args_.weight;
    float* data = static_cast<float*>(w.data) + first * w.plane;
    for (int64_t c = 0; c < args_.in_channels; ++c) {
      float u[kPositions][kChannelGroup] = {}, g[9][kChannelGroup];
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        for (int i = 0; i < kPositions; ++i) {
          const float* from =
              sums(chunk, panel) + (i * args_.in_channels + c) * width + first - panel;
          for (int64_t o = 0; o < kChannelGroup; ++o) u[i][o] += from[o];
        }
      }
      for (int64_t o = 0; o < kChannelGroup; ++o) {
        float t[4][3];
        for (int i = 0; i < 4; ++i) {
          const float sum = 0.5f * (u[4 * i + 1][o] + u[4 * i + 2][o]);
          t[i][0] = u[4 * i][o] + sum;
          t[i][1] = 0.5f * (u[4 * i + 1][o] - u[4 * i + 2][o]);
          t[i][2] = u[4 * i + 3][o] + sum;
        }
        for (int j = 0; j < 3; ++j) {
          const float sum = 0.5f * (t[1][j] + t[2][j]);
          g[j][o] = t[0][j] + sum;
          g[3 + j][o] = 0.5f * (t[1][j] - t[2][j]);
          g[6 + j][o] = t[3][j] + sum;
        }
      }
      for (int64_t o = 0; o < kChannelGroup; ++o) {
        float* to = data + o * w.plane + c * w.channel;
        for (int i = 0; i < 9; ++i) to[i / 3 * w.row + i % 3 * w.column] = g[i][o];
      }
    }
  }

  const Conv3x3Args& args_;
  const Tiles tiles_;
  const int64_t block_, panels_, size_, chunks_, tiles_of_chunk_;
  const Buffer<float> sums_;
};

}  // namespace

namespace FASTMEF_ISA {

void conv3x3_weight_gradient(const Conv3x3Args& args) { WeightGradient(args).run(); }

}  // namespace FASTMEF_ISA
}  // namespace fastmef
