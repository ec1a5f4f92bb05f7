// The convolution. Blocks of tiles are transformed, multiplied and transformed back while they stay
// in the second-level cache.
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
constexpr int64_t kKeptWeights = 16384;  // pairs of channels whose weights stay in the cache: 1 MB
constexpr int64_t kFewestTiles = 96;     // of a block that reads more weights than that
constexpr int64_t kRows = 24;            // tiles of a block are a multiple of those of `multiply`

class Conv3x3 {
 public:
  explicit Conv3x3(const Conv3x3Args& args)
      : args_(args),
        tiles_(args),
        block_(block_size(args, tiles_.count)),
        blocks_(divide_up(tiles_.count, block_)),
        plane_(block_ * args.in_channels + kGap),
        weights_(kPositions * args.in_channels * args.out_channels) {}

  void run() {
    const Task weights = [](void* context, int64_t task, void*) {
      static_cast<const Conv3x3*>(context)->transform_weights(task);
    };
    parallel_for(args_.out_channels / kChannelGroup, args_.threads, 0, weights, this);
    const Task block = [](void* context, int64_t task, void* scratch) {
      static_cast<const Conv3x3*>(context)->run_block(task, scratch);
    };
    Arena counting(nullptr);
    carve(counting);
    parallel_for(blocks_, args_.threads, counting.used(), block, this);
  }

 private:
  struct Scratch {
    float *copy, *inputs, *sums;
  };

  Scratch carve(Arena& arena) const {
    return {arena.take<float>(16 * args_.in_channels), arena.take<float>(kPositions * plane_),
            arena.take<float>(kPositions * (block_ * kPanel + kGap))};
  }

  // Every thread gets the same number of blocks.
  static int64_t block_size(const Conv3x3Args& args, int64_t tiles) {
    const bool weights_fit = args.in_channels * args.out_channels <= kKeptWeights;
    const int64_t most_tiles =
        most(weights_fit ? kRows : kFewestTiles, kBlockValues / kPositions / args.in_channels);
    const int64_t threads = most(args.threads, 1);
    const int64_t blocks = divide_up(divide_up(tiles, most_tiles), threads) * threads;
    return divide_up(divide_up(tiles, blocks), kRows) * kRows;
  }

  // Writes G w G' of a group of output channels. Panels follow each other; in each, position i of
  // input channel c has panel_width values.
  void transform_weights(int64_t group) const {
    const int64_t first = group * kChannelGroup, panel = first / kPanel * kPanel;
    const int64_t width = panel_width(panel, args_.out_channels);
    const int64_t plane = args_.in_channels * width;
    const Stack& w = args_.weight;
    const int64_t of_out = args_.mirrored ? w.channel : w.plane;
    const int64_t of_in = args_.mirrored ? w.plane : w.channel;
    const float* data = static_cast<const float*>(w.data) + first * of_out;
    for (int64_t c = 0; c < args_.in_channels; ++c) {
      float g[9][kChannelGroup], u[kPositions][kChannelGroup];
      for (int64_t o = 0; o < kChannelGroup; ++o) {
        const float* from = data + o * of_out + c * of_in;
        for (int i = 0; i < 9; ++i) {
          g[args_.mirrored ? 8 - i : i][o] = from[i / 3 * w.row + i % 3 * w.column];
        }
      }
      for (int64_t o = 0; o < kChannelGroup; ++o) {
        float t[4][3];
        for (int j = 0; j < 3; ++j) {
          const float sum = 0.5f * (g[j][o] + g[6 + j][o]), half = 0.5f * g[3 + j][o];
          t[0][j] = g[j][o];
          t[1][j] = sum + half;
          t[2][j] = sum - half;
          t[3][j] = g[6 + j][o];
        }
        for (int i = 0; i < 4; ++i) {
          const float sum = 0.5f * (t[i][0] + t[i][2]), half = 0.5f * t[i][1];
          u[4 * i][o] = t[i][0];
          u[4 * i + 1][o] = sum + half;
          u[4 * i + 2][o] = sum - half;
          u[4 * i + 3][o] = t[i][2];
        }
      }
      float* to =
          weights_.data + kPositions * args_.in_channels * panel + c * width + first - panel;
      for (int i = 0; i < kPositions; ++i) memcpy(to + i * plane, u[i], sizeof u[i]);
    }
  }

  void run_block(int64_t block, void* memory) const {
    Arena arena(memory);
    const Scratch scratch = carve(arena);
    const int64_t begin = block * block_, end = least(begin + block_, tiles_.count);
    const int64_t channels = args_.in_channels, count = end - begin;
    tiles_.transform_inputs(begin, end, scratch.copy, scratch.inputs, plane_, block_);
    const int64_t rows = divide_up(count, kRows) * kRows;
    clear_rows(scratch.inputs, count, rows);
    for (int64_t first = 0; first < args_.out_channels; first += kPanel) {
      const int64_t width = panel_width(first, args_.out_channels), plane = rows * width + kGap;
      for (int i = 0; i < kPositions; ++i) {
        const float* weights = weights_.data + (kPositions * first + i * width) * channels;
        multiply_panel(scratch.inputs + i * plane_, weights, rows, width, scratch.sums + i * plane);
      }
      tiles_.write_outputs(begin, end, first, width, scratch.sums, plane);
    }
  }

  // Fills the rows after the last tile, whose products are computed and not used.
  void clear_rows(float* inputs, int64_t begin, int64_t end) const {
    const size_t bytes = static_cast<size_t>((end - begin) * kChannelGroup) * sizeof(float);
    for (int i = 0; i < kPositions; ++i) {
      for (int64_t group = 0; group < args_.in_channels / kChannelGroup; ++group) {
        memset(inputs + i * plane_ + (group * block_ + begin) * kChannelGroup, 0, bytes);
      }
    }
  }

  void multiply_panel(const float* inputs, const float* weights, int64_t rows, int64_t width,
                      float* out) const {
    switch (width / kVec) {
#if defined(__AVX512F__)
      case 1: return multiply_rows<12, 1>(inputs, weights, rows, out);
      case 2: return multiply_rows<12, 2>(inputs, weights, rows, out);
      case 3: return multiply_rows<8, 3>(inputs, weights, rows, out);
      default: return multiply_rows<6, 4>(inputs, weights, rows, out);
#elif defined(__AVX__)
      default: return multiply_rows<6, 2>(inputs, weights, rows, out);
#else
      default: return multiply_rows<2, 4>(inputs, weights, rows, out);
#endif
    }
  }

  template <int Rows, int Vectors>
  void multiply_rows(const float* inputs, const float* weights, int64_t rows, float* out) const {
    static_assert(kRows % Rows == 0, "a block has no other tiles");
    const int64_t groups = args_.in_channels / kChannelGroup, step = block_ * kChannelGroup;
    for (int64_t r = 0; r < rows; r += Rows) {
      multiply<false, Rows, Vectors, kChannelGroup, 1>({inputs + r * kChannelGroup, groups, step},
                                                       kChannelGroup, weights,
                                                       out + r * Vectors * kVec);
    }
  }

  const Conv3x3Args& args_;
  const Tiles tiles_;
  const int64_t block_, blocks_, plane_;
  const Buffer<float> weights_;
};

}  // namespace

namespace FASTMEF_ISA {

void conv3x3(const Conv3x3Args& args) { Conv3x3(args).run(); }

}  // namespace FASTMEF_ISA
}  // namespace fastmef
