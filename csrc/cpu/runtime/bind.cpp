// Python's interface to instruction sets and threads.

#include <string>
#include <vector>

#include "common/binding.h"
#include "cpu/runtime/instruction_sets.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

// Returns the usable instruction sets, best first; "baseline" is always the last.
std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (int i = 0; i < kInstructionSets; ++i) {
    if (instruction_sets()[i].usable) names.emplace_back(instruction_sets()[i].name);
  }
  return names;
}

std::string active_isa() { return instruction_sets()[active_instruction_set()].name; }

// Selects an instruction set. Returns false if this processor or build does not have it.
bool use_isa(const std::string& name) {
  for (int i = 0; i < kInstructionSets; ++i) {
    if (!instruction_sets()[i].usable || name != instruction_sets()[i].name) continue;
    use_instruction_set(i);
    return true;
  }
  return false;
}

}  // namespace

FASTMEF_BINDING(m) {
  m.def("available_isas", &available_isas);
  m.def("active_isa", &active_isa);
  m.def("use_isa", &use_isa);
  m.def("thread_source", &thread_source);
  m.def("use_own_threads", &use_own_threads);
}

}  // namespace fastmef
