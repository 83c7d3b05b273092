// What Sharded as a whole promises. The parts of the engine have tests of their own.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "training.hpp"

namespace tessera {
namespace {

using testing::Outcome;

std::vector<Adam> two_groups() { return {Adam{.lr = 0.1f}, Adam{.lr = 0.01f, .weight_decay = 0.1f}}; }

template <class Stage, class Precision = Fp32, class Rule = Adam>
Outcome train(int world, int passes, std::vector<Rule> rules, Options options = {}, int steps = 3,
              const Layout& layout = testing::ragged_layout()) {
  std::vector<Outcome> outcomes(world);
  options.micro_batches = passes;
  options.check_weights = 1;
  options.check_gradients = true;
  run_ranks(world, [&](Local& comm) {
    Sharded<Rule, Stage, Precision> optimizer(comm, layout, {}, rules, options);
    optimizer.initialize(testing::made_up_weight);
    outcomes[comm.rank()] = testing::run_steps(optimizer, comm.rank(), comm.size(), steps, passes);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
  });
  for (const Outcome& outcome : outcomes) CHECK(outcome == outcomes[0]);
  return outcomes[0];
}

TEST_CASE("stages 0 to 3 have the same bits for world sizes 1 to 8 and 1 to 5 passes") {
  for (int world = 1; world <= 8; ++world)
    for (int passes = 1; passes <= 5; ++passes) {
      CAPTURE(world);
      CAPTURE(passes);
      const Outcome expected = train<Stage0>(world, passes, two_groups());
      CHECK(train<Stage1>(world, passes, two_groups()) == expected);
      CHECK(train<Stage2>(world, passes, two_groups()) == expected);
      CHECK(train<Stage3>(world, passes, two_groups()) == expected);
    }
}

TEST_CASE("stages have the same bits in Bf16") {
  for (int world : {1, 3, 4})
    for (int passes : {1, 3}) {
      const Outcome expected = train<Stage0, Bf16>(world, passes, two_groups());
      CHECK(train<Stage1, Bf16>(world, passes, two_groups()) == expected);
      CHECK(train<Stage2, Bf16>(world, passes, two_groups()) == expected);
      CHECK(train<Stage3, Bf16>(world, passes, two_groups()) == expected);
    }
}

TEST_CASE("world sizes 1, 2, 4 and 8 have the same bits over the same micro-batches, also with clipping") {
  const Options clipping{.clip_norm = 0.5};
  const Outcome expected = train<Stage1>(1, 8, two_groups(), clipping);
  CHECK(expected.norms[0] > 0.5);
  for (int world : {2, 4, 8}) {
    CHECK(train<Stage1>(world, 8 / world, two_groups(), clipping) == expected);
    CHECK(train<Stage3>(world, 8 / world, two_groups(), clipping) == expected);
  }
}

TEST_CASE("bits do not depend on bucket size or prefetch") {
  const Outcome expected = train<Stage3>(3, 2, two_groups());
  for (index_t bytes : {index_t{1}, index_t{400}, index_t{2000}, index_t{1} << 30})
    for (int prefetch : {0, 1, 2, 9})
      CHECK(train<Stage3>(3, 2, two_groups(), {.bucket_bytes = bytes, .prefetch = prefetch}) == expected);
}

TEST_CASE("Self trains as a world of one rank") {
  Self self;
  const Layout layout = testing::ragged_layout();
  Sharded<Adam, Stage2, Fp32, Self> optimizer(self, layout, {}, two_groups());
  optimizer.initialize(testing::made_up_weight);
  CHECK(testing::run_steps(optimizer, 0, 1, 3, 1) == train<Stage2>(1, 1, two_groups()));
}

TEST_CASE("a world with more ranks than blocks trains with empty shards") {
  Layout tiny;
  tiny.add_unit("only");
  tiny.add_tensor("w", {3});
  const auto rules = std::vector<Adam>{Adam{}};
  const Outcome expected = train<Stage0>(8, 1, rules, {}, 3, tiny);
  CHECK(train<Stage3>(8, 1, rules, {}, 3, tiny) == expected);
  CHECK(train<Stage1>(8, 1, rules, {}, 3, tiny) == expected);
}

TEST_CASE("a layout without elements trains without effect") {
  CHECK(train<Stage3>(2, 1, std::vector<Adam>{Adam{}}, {}, 2, Layout{}).parameters.empty());
}

TEST_CASE("frozen tensors keep their bits and are gathered like all others") {
  const Layout layout = testing::ragged_layout();
  const Tensor frozen = layout.find("body.running");
  run_ranks(3, [&](Local& comm) {
    Sharded<Adam, Stage3> optimizer(comm, layout, {}, two_groups());
    optimizer.initialize(testing::made_up_weight);
    testing::run_steps(optimizer, comm.rank(), 3, 2, 1);
    const auto weights = optimizer.gather(layout.unit_of(frozen));
    for (index_t i = 0; i < layout.elements(frozen); ++i)
      CHECK(weights[frozen][i] == testing::made_up_weight(frozen, i));
  });
}

TEST_CASE("the learning rate may change between steps") {
  run_ranks(2, [&](Local& comm) {
    const Layout layout = testing::ragged_layout();
    Sharded<Sgd, Stage1> optimizer(comm, layout, {}, std::vector<Sgd>(2, Sgd{.lr = 0.1f}));
    optimizer.initialize(testing::made_up_weight);
    const auto before = testing::parameters_of(optimizer);
    optimizer.rule(0).lr = 0;
    optimizer.rule(1).lr = 0;
    CHECK(testing::run_steps(optimizer, comm.rank(), 2, 1, 1).parameters == before);
    optimizer.rule(1).lr = 0.5f;
    CHECK(testing::run_steps(optimizer, comm.rank(), 2, 1, 1).parameters != before);
  });
}

TEST_CASE("a caller's buffers are trained in place") {
  const Layout layout = testing::ragged_layout();
  const Outcome expected = train<Stage1>(2, 1, two_groups());
  run_ranks(2, [&](Local& comm) {
    using Optimizer = Sharded<Adam, Stage1>;
    const Required required = Optimizer::required(layout, 2);
    std::vector<float> parameters(required.parameters), gradients(required.gradients);
    for (const Tensor t : layout.tensors())
      for (index_t i = 0; i < layout.elements(t); ++i) parameters[layout.offset(t) + i] = testing::made_up_weight(t, i);
    Optimizer optimizer(comm, layout, {.parameters = parameters, .gradients = gradients}, two_groups());
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    CHECK(testing::run_steps(optimizer, comm.rank(), 2, 3, 1) == expected);
    std::size_t next = 0;
    for (const Tensor t : layout.tensors())
      for (index_t i = 0; i < layout.elements(t); ++i)
        CHECK(parameters[layout.offset(t) + i] == expected.parameters[next++]);
  });
}

TEST_CASE("a caller's shard of parameters has the initial weights at stage 3") {
  Layout layout;
  layout.add_unit("only");
  const Tensor w = layout.add_tensor("w", {130});
  run_ranks(2, [&](Local& comm) {
    using Optimizer = Sharded<Sgd, Stage3, Bf16>;
    std::vector<bfloat16> shard(Optimizer::required(layout, 2).parameters, bfloat16(comm.rank() + 1.0f));
    Optimizer optimizer(comm, layout, {.parameters = shard}, Sgd{.lr = 0});
    testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
    const auto weights = optimizer.gather(Unit{0});
    for (index_t i = 0; i < 130; ++i) CHECK(weights[w][i] == (i < 128 ? 1.0f : 2.0f));
  });
}

constexpr index_t planned_bytes(int world) {
  Layout layout;
  layout.add_unit("only");
  layout.add_tensor("w", {1280});
  return Sharded<Adam, Stage3, Bf16>::plan(layout, world, {.micro_batches = 2}).bytes();
}
// 640 elements per rank: 2 bytes of parameter, 2 of reduced gradient, 4 of master weight, 8 of state, 4 of partial
// sums; a gradient slot and a gathered bucket of 1280 elements each; the words of the agreement, and the control state.
static_assert(planned_bytes(2) == 640 * (2 + 2 + 4 + 8 + 4) + 1280 * (2 + 2) + 8 * engine::AgreementWords::size(2, 1) +
                                      sizeof(engine::StepNumbers) + sizeof(engine::StepRule<Adam>),
              "a plan is a constant expression");

TEST_CASE("nothing is allocated after construction") {
  run_ranks(2, [&](Local& comm) {
    const Layout layout = testing::ragged_layout();
    Sharded<Adam, Stage3, Bf16> optimizer(comm, layout, {}, two_groups(), {.micro_batches = 3, .bucket_bytes = 100});
    optimizer.initialize(testing::made_up_weight);
    const index_t held = optimizer.bytes();
    CHECK(held == optimizer.plan().bytes());
    for (int step = 0; step < 4; ++step) {
      testing::run_steps(optimizer, comm.rank(), 2, 1, 3);
      CHECK(optimizer.bytes() == held);
      CHECK(optimizer.peak_bytes() == held);
    }
  });
}

template <class Stage>
std::vector<float> train_flat(index_t n, int world, index_t bucket_bytes, bool own_buffers, int passes = 1) {
  std::vector<std::vector<float>> parameters(world);
  run_ranks(world, [&](Local& comm) {
    const Layout layout = Layout::flat(n);
    std::vector<float> p(n), g(n);
    for (index_t i = 0; i < n; ++i) p[i] = testing::made_up_weight(Tensor{0}, i);
    using Optimizer = Sharded<Adam, Stage>;
    REQUIRE(Optimizer::required(layout, world).parameters == n);
    const auto buffers = own_buffers ? typename Optimizer::Buffers{.parameters = p, .gradients = g}
                                     : typename Optimizer::Buffers{.parameters = {}, .gradients = g};
    Optimizer optimizer(comm, layout, buffers, Adam{.lr = 0.1f},
                        {.micro_batches = passes, .bucket_bytes = bucket_bytes});
    if (!own_buffers) optimizer.initialize(testing::made_up_weight);
    for (int step = 0; step < 2; ++step) {
      for (int k = 0; k < passes; ++k) {
        static_cast<void>(optimizer.gather(0, n));
        auto pass = optimizer.backward();
        const index_t third = n / 3;
        for (index_t i = 0; i < n; ++i) g[i] += testing::made_up_gradient(step, k * world + comm.rank(), Tensor{0}, i);
        pass.ready(third, n);
        pass.ready(0, third);
      }
      CHECK(optimizer.step().applied());
    }
    const auto all = optimizer.gather(0, n);
    parameters[comm.rank()].assign(all.begin(), all.end());
  });
  for (const auto& p : parameters) CHECK(p == parameters[0]);
  return parameters[0];
}

TEST_CASE("one flat buffer of exactly n elements is trained by range, for any n, and equals training by units") {
  for (index_t n : {index_t{1}, index_t{64}, index_t{127}, index_t{1000}})
    for (int world : {1, 2, 3, 5}) {
      Layout layout;
      layout.add_unit("flat");
      layout.add_tensor("buffer", {n});
      const auto expected = train<Stage2>(world, 2, std::vector<Adam>{Adam{.lr = 0.1f}}, {}, 2, layout).parameters;
      CHECK(train_flat<Stage0>(n, world, 1, true, 2) == expected);
      CHECK(train_flat<Stage1>(n, world, 1, true, 2) == expected);
      CHECK(train_flat<Stage1>(n, world, 1000, false, 2) == expected);
    }
}

TEST_CASE("a tied unit is gathered, and gets gradients added, together with the unit that uses it") {
  Layout layout;
  const Unit embedding = layout.add_unit("embedding");
  const Tensor table = layout.add_tensor("table", {100});
  layout.add_unit("body");
  layout.add_tensor("w", {100});
  const Unit head = layout.add_unit("head");
  const Tensor bias = layout.add_tensor("bias", {10});
  layout.tie(head, embedding);
  const auto train_tied = [&]<class Stage>(Stage, index_t bucket_bytes, int prefetch) {
    std::vector<float> result;
    run_ranks(2, [&](Local& comm) {
      Sharded<Sgd, Stage> optimizer(comm, layout, {}, Sgd{.lr = 0.1f},
                                    {.bucket_bytes = bucket_bytes, .prefetch = prefetch});
      optimizer.initialize(testing::made_up_weight);
      for (int step = 0; step < 2; ++step) {
        for (const Unit u : layout.forward()) {
          const auto w = optimizer.gather(u);
          if (u == head) {
            const auto tied = optimizer.gather(embedding);
            CHECK(tied[table].size() == 100);
          }
        }
        auto pass = optimizer.backward();
        for (const Unit u : layout.backward()) {
          const auto w = optimizer.gather(u);
          const auto g = pass.gradients(u);
          for (const Tensor t : layout.tensors(u))
            for (float& x : g[t]) x += static_cast<float>(comm.rank() + 1);
          if (u == head) {
            const auto tied_weights = optimizer.gather(embedding);
            const auto tied = pass.gradients(embedding)[table];
            for (index_t i = 0; i < 100; ++i) tied[i] += tied_weights[table][i];
          }
          pass.ready(u);
        }
        CHECK(optimizer.step().applied());
      }
      const auto all = testing::parameters_of(optimizer);
      if (comm.rank() == 0) result = all;
    });
    static_cast<void>(bias);
    return result;
  };
  const auto expected = train_tied(Stage0{}, 1, 1);
  for (index_t bucket_bytes : {index_t{1}, index_t{1} << 20})
    for (int prefetch : {0, 1, 3}) {
      CHECK(train_tied(Stage1{}, bucket_bytes, prefetch) == expected);
      CHECK(train_tied(Stage2{}, bucket_bytes, prefetch) == expected);
      CHECK(train_tied(Stage3{}, bucket_bytes, prefetch) == expected);
    }
}

// Trains one step in a caller's buffer, then calls `leave`; the buffer must then hold the model.
template <class Leave>
void check_own_buffer(Leave leave) {
  constexpr index_t n = 1 << 18;
  for (int round = 0; round < 5; ++round) {
    std::vector<std::vector<float>> p(4, std::vector<float>(n, 1.0f)), g(4, std::vector<float>(n));
    run_ranks(4, [&](Local& comm) {
      const int r = comm.rank();
      Sharded<Sgd, Stage1> optimizer(comm, Layout::flat(n), {.parameters = p[r], .gradients = g[r]}, Sgd{.lr = 0.5},
                                     {.bucket_bytes = 1 << 16});
      auto pass = optimizer.backward();
      for (float& x : g[r]) x = 1;
      pass.ready(0, n);
      optimizer.step();
      leave(optimizer, p[r]);
    });
    for (const auto& one : p) CHECK(one == std::vector<float>(n, 0.5f));
  }
}

TEST_CASE("the caller's parameters are complete after finish() and after the optimizer's destructor") {
  check_own_buffer([](auto& optimizer, const std::vector<float>& p) {
    optimizer.finish();
    CHECK(p == std::vector<float>(p.size(), 0.5f));
  });
  check_own_buffer([](auto&, const std::vector<float>&) {});
}

}  // namespace
}  // namespace tessera
