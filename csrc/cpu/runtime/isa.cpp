#include "cpu/runtime/isa.h"

namespace fastmef {
namespace {

std::vector<const Variant*> usable() {
  std::vector<const Variant*> out;
#if defined(FASTMEF_X86_VARIANTS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    out.push_back(&avx512::variant);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    out.push_back(&avx2::variant);
  }
#endif
  out.push_back(&baseline::variant);
  return out;
}

const Variant*& chosen() {
  static const Variant* variant = usable().front();
  return variant;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Variant* variant : usable()) names.emplace_back(variant->name);
  return names;
}

const Variant& active() { return *chosen(); }

bool use_isa(const std::string& name) {
  for (const Variant* variant : usable()) {
    if (name == variant->name) {
      chosen() = variant;
      return true;
    }
  }
  return false;
}

}  // namespace fastmef
