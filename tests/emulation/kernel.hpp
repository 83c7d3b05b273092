// A kernel launch. Its blocks run one after another in random order. The threads of a block run in fibers, which are
// switched only where threads synchronize (a barrier, an exchange within a warp); a thread without synchronization is a
// plain call. The order of threads is random too, so that a missing barrier is found like a missing event.
#pragma once

#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "fibers.hpp"
#include "scheduler.hpp"

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace emulated {

// The exchange of the lanes of one mask in a warp: each lane stores a value, and the last one to arrive resumes the
// others. The next exchange uses the other row, since some lanes may still read this one.
struct Exchange {
  std::uint32_t warp, mask;
  int arrived = 0, turn = 0;
  std::uint32_t came = 0;
  std::uint64_t values[2][32];
  std::uint32_t lanes[2];
  std::vector<Fiber*> waiting;
};

class Block {
 public:
  // Runs all threads of the block at `block_index`. `thread`: the kernel with its arguments.
  void run(const std::function<void()>& thread, dim3 grid, dim3 block, uint3 block_index) {
    gridDim = grid, blockDim = block, blockIdx = block_index;
    thread_ = &thread;
    threads_ = block.x * block.y * block.z;
    started_ = finished_ = 0;
    exchanges_.clear();
    first_ = static_cast<std::uint32_t>(machine().draw(threads_));
    backwards_ = machine().draw(2) != 0;
    here_.tsan = nullptr;  // another thread may have run the last block
    while (finished_ < threads_) {
      Fiber* next;
      if (!ready_.empty()) {
        next = ready_.back();
        ready_.pop_back();
      } else if (started_ < threads_) {
        next = take_idle();
      } else {
        fail("threads of a block wait for one another at different places, or one left before a barrier");
      }
      running_ = next;
      set_thread(next->thread);
      switch_context(here_, *next);
    }
  }

  // __syncthreads(): every thread of the block must arrive.
  void barrier() {
    if (at_barrier_.size() + 1 == threads_) return release(at_barrier_);
    at_barrier_.push_back(running_);
    park();
  }

  // Stores `value` for the lanes of `mask` and returns the address of theirs. Valid until the next but one exchange.
  struct Values {
    const std::uint64_t* of;
    std::uint32_t lanes;
  };
  Values exchange(std::uint32_t mask, std::uint64_t value) {
    const std::uint32_t thread = running_->thread, lane = thread % 32, warp = thread / 32;
    const std::uint32_t width = threads_ - warp * 32;
    const std::uint32_t lanes = width < 32 ? mask & ((1u << width) - 1) : mask;
    if ((lanes >> lane & 1) == 0) fail("a thread is not in the mask of the exchange that it takes part in");
    Exchange* with = nullptr;
    for (auto& exchange : exchanges_) {
      if (exchange->warp == warp && exchange->mask == mask) with = exchange.get();
    }
    if (with == nullptr) {
      exchanges_.push_back(std::make_unique<Exchange>());
      with = exchanges_.back().get();
      with->warp = warp, with->mask = mask;
    }
    const int turn = with->turn;
    with->values[turn][lane] = value;
    with->lanes[turn] = lanes;
    with->came |= 1u << lane;
    if (with->came == lanes) {
      with->came = 0;
      with->turn ^= 1;
      release(with->waiting);
    } else {
      with->waiting.push_back(running_);
      park();
    }
    return {with->values[turn], lanes};
  }

  std::uint32_t lane() const { return running_->thread % 32; }

 private:
  [[noreturn]] static void fail(const char* what) {
    std::fprintf(stderr, "emulated CUDA: %s\n", what);
    std::abort();
  }

  void set_thread(std::uint32_t thread) {
    running_->thread = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
  }

  // Lets other threads run; returns when the condition of this thread is met.
  void park() {
    Fiber* me = running_;
    switch_context(*me, here_);
  }

  void release(std::vector<Fiber*>& waiting) {
    if (machine().draw(2) != 0) std::reverse(waiting.begin(), waiting.end());
    ready_.insert(ready_.end(), waiting.begin(), waiting.end());
    waiting.clear();
  }

  Fiber* take_idle() {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>(&work));
      idle_.push_back(fibers_.back().get());
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return fiber;
  }

  // Runs threads on the stack of one fiber until none is left to start. A thread that waits keeps the fiber.
  static void work();

  const std::function<void()>* thread_ = nullptr;
  std::uint32_t threads_ = 0, started_ = 0, finished_ = 0, first_ = 0;
  bool backwards_ = false;
  Context here_;  // of run()
  Fiber* running_ = nullptr;
  std::vector<Fiber*> ready_, at_barrier_, idle_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
};

// The running block: kernels run under the machine's mutex.
inline Block& block() {
  static Block& it = *new Block;
  return it;
}

inline void Block::work() {
  Block& b = block();
  arrive(*b.running_);
  for (;;) {
    while (b.started_ < b.threads_) {
      const std::uint32_t number = b.started_++;
      const std::uint32_t along = b.backwards_ ? b.threads_ - 1 - number : number;
      b.set_thread((along + b.first_) % b.threads_);
      (*b.thread_)();
      ++b.finished_;
    }
    Fiber* me = b.running_;
    b.idle_.push_back(me);
    switch_context(*me, b.here_);
  }
}

// A launch in flight. It runs a few blocks at a time, so that the blocks of several streams interleave.
class Grid {
 public:
  Grid(dim3 grid, dim3 block, int device, std::function<void()> thread)
      : grid_(grid), block_(block), device_(device), thread_(std::move(thread)) {}

  Progress operator()() {
    Machine& m = machine();
    m.memory.show(m.reach[device_]);
    const std::uint64_t blocks = std::uint64_t{grid_.x} * grid_.y * grid_.z;
    if (done_ == 0) first_ = m.draw(blocks);
    for (std::uint64_t some = 1 + m.draw(blocks - done_); some > 0; --some, ++done_) {
      const std::uint64_t at = (first_ + done_) % blocks;
      block().run(thread_, grid_, block_,
                  {static_cast<unsigned>(at % grid_.x), static_cast<unsigned>(at / grid_.x % grid_.y),
                   static_cast<unsigned>(at / grid_.x / grid_.y)});
    }
    return done_ < blocks ? Progress::more : Progress::done;
  }

 private:
  dim3 grid_, block_;
  int device_;
  std::function<void()> thread_;
  std::uint64_t first_ = 0, done_ = 0;
};

}  // namespace emulated
