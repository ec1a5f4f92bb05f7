// One axis of an image under a window filter: the positions of windows and the padding.
//
// Padded positions count from the first position of the first window, so that window w covers the
// padded positions [w, w + window). "valid" has no padding.
#pragma once

#include <stdint.h>

namespace fastmef {

// The order is part of the interface to Python.
enum Border { kValid, kZero, kReflect };

struct Axis {
  int64_t size;
  int window;
  Border border;

  int64_t pad() const { return border == kValid ? 0 : window / 2; }
  int64_t padded() const { return size + 2 * pad(); }
  int64_t windows() const { return padded() - window + 1; }

  // Returns the pixel at a padded position, -1 for none. Windows are never longer than the axis, so
  // one reflection is enough.
  int64_t source(int64_t position) const {
    const int64_t i = position - pad();
    if (i >= 0 && i < size) return i;
    if (border != kReflect) return -1;
    return i < 0 ? -i : 2 * (size - 1) - i;
  }

  // Return the first and the last padded position that repeat pixel i.
  int64_t first(int64_t i) const {
    return border == kReflect && i >= 1 && i <= pad() ? pad() - i : i + pad();
  }
  int64_t last(int64_t i) const { return padded() - 1 - first(size - 1 - i); }

  // Return the range [begin, end) that contains all padded positions of the pixels [first, last).
  int64_t begin(int64_t first, int64_t last) const {
    const int64_t p = pad();
    if (border != kReflect || first > p || last <= 1) return first + p;
    return last - 1 < p ? p - (last - 1) : 0;
  }
  int64_t end(int64_t first, int64_t last) const {
    return padded() - begin(size - last, size - first);
  }
};

}  // namespace fastmef
