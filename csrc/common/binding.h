// Python passes arrays as addresses and strides, so that a module is built without PyTorch and
// works with every version of it. Python has checked shapes and types.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>

#include "common/stack.h"

namespace fastmef {

// One part of a module. The constructor adds it to a list when the module is loaded, before the
// module is initialised.
class Binding {
 public:
  using Function = void (*)(pybind11::module_&);

  explicit Binding(Function bind) : bind_(bind), next_(first_) { first_ = this; }

  static void bind_all(pybind11::module_& m) {
    for (const Binding* binding = first_; binding; binding = binding->next_) binding->bind_(m);
  }

 private:
  static inline const Binding* first_ = nullptr;

  Function bind_;
  const Binding* next_;
};

// FASTMEF_BINDING(m) { m.def(...); } defines a part of the module, at most once in a source.
#define FASTMEF_BINDING(m)                             \
  static void fastmef_bind(pybind11::module_&);        \
  static const Binding fastmef_binding(&fastmef_bind); \
  static void fastmef_bind(pybind11::module_& m)

// Converts an address from Python to a pointer.
inline void* pointer(int64_t address) {
  return reinterpret_cast<void*>(static_cast<intptr_t>(address));
}

}  // namespace fastmef

namespace pybind11 {
namespace detail {

// Converts (address, dtype, strides of B, K, C, H and W) to a Stack. The address of an absent array
// is 0.
template <>
struct type_caster<fastmef::Stack> {
  PYBIND11_TYPE_CASTER(fastmef::Stack, const_name("tuple[int, int, int, int, int, int, int]"));

  bool load(handle source, bool convert) {
    make_caster<std::array<int64_t, 7>> numbers;
    if (!numbers.load(source, convert)) return false;
    const auto& t = cast_op<const std::array<int64_t, 7>&>(numbers);
    value = {
        fastmef::pointer(t[0]), static_cast<fastmef::DType>(t[1]), t[2], t[3], t[4], t[5], t[6]};
    return true;
  }
};

}  // namespace detail
}  // namespace pybind11
