// A step allocates nothing, and all ranks learn which buffer could not be allocated. Checked where memory is allocated.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "training.hpp"

namespace {
std::atomic<long> allocations{0};

// Per thread: how many more buffers a host executor can allocate.
thread_local int buffers_left = std::numeric_limits<int>::max();
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t border) {
  ++allocations;
  if (buffers_left-- == 0) throw std::bad_alloc();
  const auto align = static_cast<std::size_t>(border);
  if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tessera {
namespace {

// Names that are longer than the internal buffer of a std::string.
Layout long_names() {
  Layout layout;
  for (int u = 0; u < 4; ++u) {
    layout.add_unit("decoder.block." + std::to_string(u) + ".attention.and.mlp");
    layout.add_tensor("a.weight.with.a.long.name", {300});
    layout.add_tensor("another.weight.with.a.long.name", {7});
  }
  return layout;
}

template <class Stage>
void check_steps_allocate_nothing(Timeline* timeline = nullptr) {
  const Layout layout = long_names();
  std::atomic<int> arrived{0};
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage, Bf16> optimizer(comm, layout, {}, Adam{},
                                         {.micro_batches = 2, .bucket_bytes = 300, .timeline = timeline});
    optimizer.initialize(testing::made_up_weight);
    // late: the rank that delays, so that the other ranks run ahead and queues grow to their largest size.
    const auto steps = [&](int count, int late) {
      for (int step = 0; step < count; ++step) {
        if (comm.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        for (int k = 0; k < 2; ++k) {
          for (const Unit u : layout.forward()) static_cast<void>(optimizer.gather(u));
          auto pass = optimizer.backward();
          for (const Unit u : layout.backward()) {
            const auto weights = optimizer.gather(u);
            const auto gradients = pass.gradients(u);
            for (auto& x : gradients.trainable()) x = bfloat16(1.0f);
            pass.ready(u);
          }
        }
        static_cast<void>(optimizer.step());
      }
    };
    const auto together = [&](int ranks) {
      ++arrived;
      while (arrived < ranks) std::this_thread::yield();
    };
    steps(3, 0);
    steps(3, 1);
    together(2);
    const long before = allocations;
    together(4);
    steps(10, -1);
    together(6);
    const long after = allocations;
    together(8);  // CHECK allocates
    CHECK(after == before);
  });
}

TEST_CASE("a step allocates nothing, at any stage") {
  check_steps_allocate_nothing<Stage0>();
  check_steps_allocate_nothing<Stage1>();
  check_steps_allocate_nothing<Stage2>();
  check_steps_allocate_nothing<Stage3>();
}

TEST_CASE("a step with a timeline allocates nothing") {
  Timeline timeline(100);
  check_steps_allocate_nothing<Stage3>(&timeline);
  CHECK(timeline.tracks()[0]->lost() > 0);
}

TEST_CASE("a queue that gets calls of several pieces allocates nothing") {
  std::atomic<int> arrived{0};
  run_ranks(2, [&](Local& comm) {
    float numbers[3] = {1, 1, 1};
    auto queue = comm.queue(std::chrono::seconds(30));
    const std::span<float> all(numbers);
    const Piece<float> pieces[] = {{all.first(1), all.first(1)}, {all.last(2), all.last(2)}};
    const auto post = [&](int count) {
      for (int i = 0; i < count; ++i) queue.post(AllReduce<float>(pieces, {"x", i, 0})).wait();
    };
    post(4);
    const auto together = [&](int ranks) {
      ++arrived;
      while (arrived < ranks) std::this_thread::yield();
    };
    together(2);
    const long before = allocations;
    together(4);
    post(20);
    together(6);
    const long after = allocations;
    together(8);
    CHECK(after == before);
  });
}

// For each buffer in turn, its allocation fails on rank 1. Returns the number of buffers.
template <class Stage>
int check_missing_memory_is_said_on_all_ranks() {
  const Layout layout = long_names();
  for (int left = 1;; ++left) {  // the first buffer is for the agreement
    std::vector<std::string> errors(3);
    run_ranks(3, [&](Local& comm) {
      if (comm.rank() == 1) buffers_left = left;
      try {
        Sharded<Adam, Stage, Fp16> optimizer(comm, layout, {}, Adam{}, {.micro_batches = 4, .clip_norm = 1});
      } catch (const Error& error) {
        errors[comm.rank()] = error.what();
      }
      buffers_left = std::numeric_limits<int>::max();
    });
    if (errors == std::vector<std::string>(3)) return left - 1;
    CHECK(errors[1].find("bytes could not be allocated: std::bad_alloc") != std::string::npos);
    CHECK(errors[0] == "rank 1 could not be built: " + errors[1]);
    CHECK(errors[2] == errors[0]);
  }
}

TEST_CASE("a rank that cannot allocate one of the optimizer's buffers names it on all ranks") {
  CHECK(check_missing_memory_is_said_on_all_ranks<Stage0>() >= 5);
  CHECK(check_missing_memory_is_said_on_all_ranks<Stage3>() >= 5);
}

}  // namespace
}  // namespace tessera
