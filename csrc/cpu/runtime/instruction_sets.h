// The instruction sets that operations are compiled for.
//
// setup.py reads this list, which is the only one: every feature becomes the compiler's
// -m<feature>.
#pragma once

#if defined(FASTMEF_X86)
// The best set comes first.
#define FASTMEF_INSTRUCTION_SETS(SET, x)                                                        \
  SET(avx512,                                                                                   \
      HAS("avx512f") && HAS("avx512dq") && HAS("avx512bw") && HAS("avx512vl") && HAS("fma"), x) \
  SET(avx2, HAS("avx2") && HAS("fma"), x)                                                       \
  SET(baseline, true, x)
#else
#define FASTMEF_INSTRUCTION_SETS(SET, x) SET(baseline, true, x)
#endif

namespace fastmef {

#define FASTMEF_COUNT_(set, condition, x) +1
constexpr int kInstructionSets = FASTMEF_INSTRUCTION_SETS(FASTMEF_COUNT_, );

struct InstructionSet {
  const char* name;
  bool usable;  // whether this processor has it
};

// Returns all kInstructionSets sets of the list.
const InstructionSet* instruction_sets();

// Returns the position of the active set in the list, at first the best that this processor has.
int active_instruction_set();
void use_instruction_set(int position);

// The entry points of an operation, one for each instruction set. A call runs that of the active
// set.
template <class Function>
struct Kernel;

template <class Result, class... Arguments>
struct Kernel<Result(Arguments...)> {
  Result (*variants[kInstructionSets])(Arguments...);

  Result operator()(Arguments... arguments) const {
    return variants[active_instruction_set()](arguments...);
  }
};

// FASTMEF_KERNEL(ssim, double(const SsimArgs&, bool in_double)) declares a function of this type
// in the namespace of every instruction set, and ssim_kernel, which the binding calls. The
// operation's source defines the function in the namespace FASTMEF_ISA.
#define FASTMEF_KERNEL(name, ...)                     \
  using name##_function = __VA_ARGS__;                \
  FASTMEF_INSTRUCTION_SETS(FASTMEF_DECLARE_, name)    \
  constexpr Kernel<name##_function> name##_kernel = { \
      {FASTMEF_INSTRUCTION_SETS(FASTMEF_ADDRESS_, name)}};
#define FASTMEF_DECLARE_(set, condition, name) \
  namespace set {                              \
  name##_function name;                        \
  }
#define FASTMEF_ADDRESS_(set, condition, name) set::name,

}  // namespace fastmef
