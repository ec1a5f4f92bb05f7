#include "cpu/runtime/instruction_sets.h"

namespace fastmef {
namespace {

// Returns the position of the best usable set in the list.
int best() {
  int position = 0;
  while (!instruction_sets()[position].usable) ++position;
  return position;
}

int& active() {
  static int position = best();
  return position;
}

}  // namespace

#define HAS(feature) (__builtin_cpu_supports(feature) != 0)
#define FASTMEF_ENTRY_(set, condition, x) {#set, condition},

const InstructionSet* instruction_sets() {
  static const InstructionSet sets[] = {FASTMEF_INSTRUCTION_SETS(FASTMEF_ENTRY_, )};
  return sets;
}

int active_instruction_set() { return active(); }
void use_instruction_set(int position) { active() = position; }

}  // namespace fastmef
