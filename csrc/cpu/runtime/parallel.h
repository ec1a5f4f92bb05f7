// A parallel loop over independent tasks, on the threads that PyTorch already has.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastmef {

// Runs task(context, index, scratch) for every index in [0, tasks) on at most `threads` threads.
// Each thread gets `scratch_bytes` of its own memory, aligned to a cache line and not initialised.
// Throws std::bad_alloc if that memory cannot be allocated.
using Task = void (*)(void* context, int64_t index, void* scratch);
void parallel_for(int64_t tasks, int threads, size_t scratch_bytes, Task task, void* context);

// Ignores the OpenMP run-time of the process, so that tests reach the fallback.
void use_own_threads(bool own);

// Returns "openmp" if the loop runs on the OpenMP run-time that is already in the process, else
// "threads".
const char* thread_source();

}  // namespace fastmef
