// The cost of a timeline: of a call that records the current unit, and of a whole training step of a small model in
// which only the optimizer's bookkeeping takes time, each with and without a timeline.
#include <benchmark/benchmark.h>

#include <tessera/tessera.hpp>

using namespace tessera;

namespace {

constexpr int units = 24;

Layout small_model() {
  Layout layout;
  for (int u = 0; u < units; ++u) {
    layout.add_unit("block " + std::to_string(u));
    layout.add_tensor("w", {64});
  }
  return layout;
}

enum Watched { no, yes };

void one_call(benchmark::State& state) {
  Timeline timeline;
  const Layout layout = small_model();
  Self::Queue queue = Self().queue({});
  engine::RankSpans spans(state.range(0) == yes ? &timeline : nullptr, 0, layout, queue, queue);
  int u = 0;
  for (auto _ : state) {
    spans.compute(Unit{u ^= 1}, 0);
    benchmark::ClobberMemory();
  }
}

// One rank, whose queues complete every call at once, so that no other thread has an influence.
void one_step(benchmark::State& state) {
  Timeline timeline;
  const Layout layout = small_model();
  Self self;
  Sharded<AdamW, Stage2, Fp32, Self> optimizer(
      self, layout, {}, AdamW{}, {.bucket_bytes = 1, .timeline = state.range(0) == yes ? &timeline : nullptr});
  optimizer.initialize([](Tensor, index_t) { return 0.0f; });
  for (auto _ : state) {
    for (const Unit u : layout.forward()) {
      const auto weights = optimizer.gather(u);
      benchmark::DoNotOptimize(weights.trainable().data());
    }
    auto pass = optimizer.backward();
    for (const Unit u : layout.backward()) {
      const auto weights = optimizer.gather(u);
      pass.gradients(u).trainable()[0] += weights.trainable()[0];
      pass.ready(u);
    }
    benchmark::DoNotOptimize(optimizer.step());
  }
}

BENCHMARK(one_call)->ArgName("timeline")->Arg(no)->Arg(yes);
BENCHMARK(one_step)->ArgName("timeline")->Arg(no)->Arg(yes);

}  // namespace

BENCHMARK_MAIN();
