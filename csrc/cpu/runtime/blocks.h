// Runs an operation in blocks, each with scratch memory from an Arena.
#pragma once

#include "cpu/runtime/arena.h"
#include "cpu/runtime/parallel.h"

namespace fastmef {
namespace {

// Calls Block(args, arena).run(index) for every index in [0, blocks). Its constructor takes the
// same memory from every arena.
template <class Block, class Args>
void run_blocks(const Args& args, int64_t blocks) {
  Arena counted(nullptr);
  Block(args, counted);
  const Task task = [](void* context, int64_t index, void* scratch) {
    Arena arena(scratch);
    Block(*static_cast<const Args*>(context), arena).run(index);
  };
  parallel_for(blocks, args.threads, counted.used(), task, const_cast<Args*>(&args));
}

}  // namespace
}  // namespace fastmef
