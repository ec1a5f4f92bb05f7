#include "cpu/runtime/parallel.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace fastmef {
namespace {

// Scratch memory that a thread keeps between calls, because new pages cost more time than a small
// image.
class Scratch {
 public:
  // Returns memory that is aligned to a cache line, or null if it cannot be allocated.
  void* get(size_t bytes) {
    if (bytes + 64 > size_) {
      block_.reset();
      size_ = 0;
      block_.reset(static_cast<char*>(std::malloc(bytes + 64)));
      if (!block_) return nullptr;
      size_ = bytes + 64;
    }
    const auto address = reinterpret_cast<uintptr_t>(block_.get());
    return reinterpret_cast<void*>((address + 63) / 64 * 64);
  }

 private:
  struct Free {
    void operator()(char* block) const { std::free(block); }
  };
  std::unique_ptr<char, Free> block_;
  size_t size_ = 0;
};

// One parallel loop.
struct Region {
  int64_t tasks;
  size_t scratch_bytes;
  Task task;
  void* context;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};

  // Runs tasks until none is left; called by every thread.
  void work() {
    thread_local Scratch scratch;
    void* memory = scratch.get(scratch_bytes);
    if (!memory) {
      failed = true;
      return;
    }
    for (int64_t i = next++; i < tasks; i = next++) task(context, i, memory);
  }
};

void work_on(void* region) { static_cast<Region*>(region)->work(); }

// PyTorch loads its own OpenMP run-time. A second one would be a second pool of threads, which spin
// for a while after each loop and slow down the threads of the first pool. So the loop uses the
// run-time that is already loaded, through the function that GCC's OpenMP code calls (LLVM's and
// Intel's run-times export it as well).
using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

GompParallel find_openmp() {
#if defined(_WIN32)
  return nullptr;
#else
  return reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#endif
}

std::atomic<bool> prefer_own{false};

// Returns the entry of the OpenMP run-time, or null if the pool is to be used.
GompParallel openmp() {
  static const GompParallel found = find_openmp();
  return prefer_own ? nullptr : found;
}

// The pool of threads that is used if no OpenMP run-time is loaded.
class Pool {
 public:
  static Pool& instance() {
    // The pool is never destroyed, because threads may still be waiting on it when the process
    // ends. After a fork the child has none of the threads, so it makes a new pool.
    static std::mutex guard;
    static Pool* pool = nullptr;
    static long owner = 0;
    const std::lock_guard<std::mutex> lock(guard);
    const long process = current_process();
    if (!pool || owner != process) {
      pool = new Pool;
      owner = process;
    }
    return *pool;
  }

  // Runs a loop on the calling thread and threads - 1 workers.
  void run(Region& region, int threads) {
    const std::lock_guard<std::mutex> one_at_a_time(callers_);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (workers_ < threads - 1) {
        std::thread([this, id = workers_] { loop(id); }).detach();
        ++workers_;
      }
      region_ = &region;
      wanted_ = threads - 1;
      running_ = threads - 1;
      ++generation_;
    }
    start_.notify_all();
    region.work();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
    region_ = nullptr;
  }

 private:
  static long current_process() {
#if defined(_WIN32)
    return 1;
#else
    return static_cast<long>(getpid());
#endif
  }

  // The loop of a worker, which waits for regions and works on them.
  void loop(int id) {
    uint64_t seen = 0;
    for (;;) {
      Region* region;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        start_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (id >= wanted_) continue;
        region = region_;
      }
      region->work();
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex callers_, mutex_;
  std::condition_variable start_, done_;
  Region* region_ = nullptr;
  uint64_t generation_ = 0;
  int workers_ = 0, wanted_ = 0, running_ = 0;
};

}  // namespace

void parallel_for(int64_t tasks, int threads, size_t scratch_bytes, Task task, void* context) {
  Region region{tasks, scratch_bytes, task, context};
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1) {
    region.work();
  } else if (openmp()) {
    openmp()(work_on, &region, static_cast<unsigned>(threads), 0);
  } else {
    Pool::instance().run(region, threads);
  }
  // Threads that got their memory run all tasks; tasks are missing only if no thread got any.
  if (region.failed && region.next < tasks) throw std::bad_alloc();
}

void use_own_threads(bool own) { prefer_own = own; }

const char* thread_source() { return openmp() ? "openmp" : "threads"; }

}  // namespace fastmef
