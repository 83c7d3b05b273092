// A step allocates nothing: counted where all memory comes from.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>

#include "training.hpp"

namespace {
std::atomic<long> allocations{0};
}

[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tessera {
namespace {

// A name longer than what a std::string keeps without allocating.
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
    // late: the rank that lets the others run ahead, so that queues grow to all that they will ever hold.
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

TEST_CASE("nor does one that is watched") {
  Timeline timeline(100);
  check_steps_allocate_nothing<Stage3>(&timeline);
  CHECK(timeline.tracks()[0]->lost() > 0);
}

}  // namespace
}  // namespace tessera
