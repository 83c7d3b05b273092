// The seconds of a whole step (passes, reductions, update) against the number of ranks, whatever its divisors. It uses
// only what the library has had from its first version on, so that it compiles against earlier headers, too:
//
//     g++ -std=c++20 -O2 -I include bench/any_world.cpp -o now -pthread
//     git worktree add /tmp/before COMMIT && g++ -std=c++20 -O2 -I /tmp/before/include bench/any_world.cpp -o before -pthread
//     python3 bench/any_world.py before now > bench/results/any_world.md
//
// usage: any_world RANKS PASSES STEPS ELEMENTS   prints the seconds of each step after the first, on one line
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <tessera/tessera.hpp>

using namespace tessera;

int main(int count, char** arguments) {
  if (count != 5) {
    std::fputs("usage: any_world RANKS PASSES STEPS ELEMENTS\n", stderr);
    return 2;
  }
  const int ranks = std::atoi(arguments[1]), passes = std::atoi(arguments[2]), steps = std::atoi(arguments[3]);
  const index_t elements = std::atoll(arguments[4]);
  Layout layout;
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {elements / 8});
  }
  std::vector<double> seconds;
  run_ranks(ranks, [&](Local& comm) {
    Options options;
    options.micro_batches = passes;
    Sharded<AdamW, Stage2, Fp32> optimizer(comm, layout, {}, AdamW{}, options);
    optimizer.initialize([](Tensor, index_t) { return 0.5f; });
    for (int step = 0; step <= steps; ++step) {
      const auto began = std::chrono::steady_clock::now();
      for (int k = 0; k < passes; ++k) {
        auto pass = optimizer.backward();
        for (const Unit u : layout.backward()) {
          static_cast<void>(optimizer.gather(u));
          static_cast<void>(pass.gradients(u));
          pass.ready(u);
        }
      }
      static_cast<void>(optimizer.step());
      optimizer.finish();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
      if (comm.rank() == 0 && step > 0) seconds.push_back(took.count());
    }
  });
  for (const double each : seconds) std::printf("%.6f ", each);
  std::puts("");
}
