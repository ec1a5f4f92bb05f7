// Tiles of 2x2 outputs, and the 4x4 inputs that each depends on.
#pragma once

#include "cpu/conv3x3/conv3x3.h"
#include "cpu/runtime/lanes.h"
#include "cpu/runtime/vec.h"

namespace fastmef {
namespace {

constexpr int kPositions = 16;  // of a transformed tile
constexpr int64_t kGap = 16;    // between positions, which else share few sets of the cache

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Channels-last images.
struct Images {
  float* data;
  int64_t height, width, channels;

  float* pixel(int64_t b, int64_t y, int64_t x) const {
    return data + ((b * height + y) * width + x) * channels;
  }
};

// The pixels of a square of Size pixels whose first one is at (y, x) of image b. Pixels beyond the
// border are zero in a copy.
template <int Size>
struct Patch {
  const float* row[Size];
  int64_t step;  // between pixels of a row

  // `copy` has room for Size * Size pixels of `count` channels, the first of which is `first`.
  Patch(const Images& images, int64_t b, int64_t y, int64_t x, int64_t first, int64_t count,
        float* copy) {
    if (y >= 0 && x >= 0 && y + Size <= images.height && x + Size <= images.width) {
      for (int i = 0; i < Size; ++i) row[i] = images.pixel(b, y + i, x) + first;
      step = images.channels;
      return;
    }
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    for (int i = 0; i < Size; ++i) {
      row[i] = copy + i * Size * count;
      for (int j = 0; j < Size; ++j) {
        float* to = copy + (i * Size + j) * count;
        const bool inside =
            y + i >= 0 && y + i < images.height && x + j >= 0 && x + j < images.width;
        if (inside) {
          memcpy(to, images.pixel(b, y + i, x + j) + first, bytes);
        } else {
          memset(to, 0, bytes);
        }
      }
    }
    step = count;
  }
};

// The tiles of all images, in rows.
struct Tiles {
  explicit Tiles(const Conv3x3Args& args)
      : input{static_cast<float*>(args.input.data), args.height, args.width, args.in_channels},
        output{static_cast<float*>(args.output.data), args.height + 2 * args.padding - 2,
               args.width + 2 * args.padding - 2, args.out_channels},
        padding(args.padding),
        down((output.height + 1) / 2),
        across((output.width + 1) / 2),
        count(args.batch * down * across) {}

  // Calls f(tile - begin, b, y, x) with the position of the tile's first output.
  template <class F>
  void for_each(int64_t begin, int64_t end, const F& f) const {
    int64_t x = begin % across, row = begin / across;
    for (int64_t t = 0; t < end - begin; x = 0, ++row) {
      const int64_t b = row / down, y = 2 * (row % down);
      for (; x < across && t < end - begin; ++x, ++t) f(t, b, y, 2 * x);
    }
  }

  // Writes B' X B of tiles. Position i of tile t and channel c is at out + i * plane, there at
  // (c / kChannelGroup * group + t) * kChannelGroup + c % kChannelGroup.
  void transform_inputs(int64_t begin, int64_t end, float* copy, float* out, int64_t plane,
                        int64_t group) const {
    const int64_t channels = input.channels;
    for_each(begin, end, [&](int64_t t, int64_t b, int64_t y, int64_t x) {
      const Patch<4> patch(input, b, y - padding, x - padding, 0, channels, copy);
      for (int64_t c = 0; c < channels; c += kVec) {
        float* to = out + (c / kChannelGroup * group + t) * kChannelGroup + c % kChannelGroup;
        Vec v[4][4];
        for (int j = 0; j < 4; ++j) {
          const int64_t at = j * patch.step + c;
          const Vec d0 = load(patch.row[0] + at), d1 = load(patch.row[1] + at);
          const Vec d2 = load(patch.row[2] + at), d3 = load(patch.row[3] + at);
          v[0][j] = d0 - d2;
          v[1][j] = d1 + d2;
          v[2][j] = d2 - d1;
          v[3][j] = d1 - d3;
        }
        for (int i = 0; i < 4; ++i) {
          float* position = to + 4 * i * plane;
          store(v[i][0] - v[i][2], position);
          store(v[i][1] + v[i][2], position + plane);
          store(v[i][2] - v[i][1], position + 2 * plane);
          store(v[i][1] - v[i][3], position + 3 * plane);
        }
      }
    });
  }

  // Writes A dL/dY A' of `count` channels from `first` on; position i of tile t is at
  // out + i * plane + t * count.
  void transform_gradients(int64_t begin, int64_t end, int64_t first, int64_t channels, float* copy,
                           float* out, int64_t plane) const {
    for_each(begin, end, [&](int64_t t, int64_t b, int64_t y, int64_t x) {
      const Patch<2> patch(output, b, y, x, first, channels, copy);
      float* to = out + t * channels;
      for (int64_t c = 0; c < channels; c += kVec) {
        Vec v[4][2];
        for (int j = 0; j < 2; ++j) {
          const Vec g0 = load(patch.row[0] + j * patch.step + c);
          const Vec g1 = load(patch.row[1] + j * patch.step + c);
          v[0][j] = g0;
          v[1][j] = g0 + g1;
          v[2][j] = g0 - g1;
          v[3][j] = -g1;
        }
        for (int i = 0; i < 4; ++i) {
          float* position = to + 4 * i * plane + c;
          store(v[i][0], position);
          store(v[i][0] + v[i][1], position + plane);
          store(v[i][0] - v[i][1], position + 2 * plane);
          store(-v[i][1], position + 3 * plane);
        }
      }
    });
  }

  // Writes A' M A of `channels` channels from `first` on to the output; position i of tile t is at
  // in + i * plane + t * channels.
  void write_outputs(int64_t begin, int64_t end, int64_t first, int64_t channels, const float* in,
                     int64_t plane) const {
    for_each(begin, end, [&](int64_t t, int64_t b, int64_t y, int64_t x) {
      const float* from = in + t * channels;
      float* to = output.pixel(b, y, x) + first;
      const int64_t right = output.channels, below = output.width * output.channels;
      const bool has_right = x + 1 < output.width, has_below = y + 1 < output.height;
      for (int64_t c = 0; c < channels; c += kVec) {
        Vec v[4][2];
        for (int i = 0; i < 4; ++i) {
          const float* position = from + 4 * i * plane + c;
          const Vec m0 = load(position), m1 = load(position + plane);
          const Vec m2 = load(position + 2 * plane), m3 = load(position + 3 * plane);
          v[i][0] = m0 + m1 + m2;
          v[i][1] = m1 - m2 - m3;
        }
        store(v[0][0] + v[1][0] + v[2][0], to + c);
        if (has_right) store(v[0][1] + v[1][1] + v[2][1], to + c + right);
        if (!has_below) continue;
        store(v[1][0] - v[2][0] - v[3][0], to + c + below);
        if (has_right) store(v[1][1] - v[2][1] - v[3][1], to + c + below + right);
      }
    });
  }

  const Images input, output;
  const int64_t padding, down, across, count;
};

}  // namespace
}  // namespace fastmef
