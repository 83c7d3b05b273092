// Errors of the caller: the message names the tensor, unit or rank and says what to do. State does not change, and
// nothing hangs.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "training.hpp"

namespace tessera {
namespace {

using testing::ragged_layout;
using doctest::Contains;

Layout two_units() {
  Layout layout;
  layout.add_unit("first");
  layout.add_tensor("w", {100});
  layout.add_unit("last");
  layout.add_tensor("w", {100});
  layout.add_tensor("frozen", {10}, {.frozen = true});
  return layout;
}

// One rank is enough if nothing is sent.
template <class Stage = Stage2>
struct Alone {
  Self self;
  Layout layout = two_units();
  Sharded<Adam, Stage, Fp32, Self> optimizer;
  Unit first{0}, last{1};
  explicit Alone(Options options = {}) : optimizer(self, layout, {}, Adam{}, options) {
    optimizer.initialize(testing::made_up_weight);
  }
};

// Runs `build(comm)` on every rank and returns each rank's error message.
template <class Build>
std::vector<std::string> errors_of(int world, Build build) {
  std::vector<std::string> errors(world);
  run_ranks(world, [&](Local& comm) {
    try {
      build(comm);
    } catch (const Error& error) {
      errors[comm.rank()] = error.what();
    }
  });
  return errors;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("a second ready() for a unit is refused and names it") {
  Alone alone;
  auto pass = alone.optimizer.backward();
  pass.gradients(alone.last);
  pass.ready(alone.last);
  CHECK_THROWS_WITH_AS(pass.ready(alone.last), Contains("ready('last') a second time"), UsageError);
  pass.gradients(alone.first);
  pass.ready(alone.first);
  CHECK(alone.optimizer.step().applied());
}

TEST_CASE("step() names a unit that was not ready, and the unit can still become ready") {
  Alone alone;
  auto pass = alone.optimizer.backward();
  pass.gradients(alone.last);
  pass.ready(alone.last);
  CHECK_THROWS_WITH_AS(alone.optimizer.step(), Contains("unit 'first' was never ready"), UsageError);
  pass.gradients(alone.first);
  pass.ready(alone.first);
  CHECK(alone.optimizer.step().applied());
}

TEST_CASE("if a pass ends before all units are ready, step() says so") {
  Alone alone;
  {
    auto pass = alone.optimizer.backward();
    pass.gradients(alone.last);
    pass.ready(alone.last);
  }
  CHECK_THROWS_WITH_AS(alone.optimizer.step(), Contains("dropped and the step with it: unit 'first' was never ready"),
                       UsageError);
}

TEST_CASE("ready() outside a pass and ready() without gradients are refused") {
  Alone alone;
  auto pass = alone.optimizer.backward();
  CHECK_THROWS_WITH_AS(pass.ready(alone.last), Contains("ready('last') without gradients('last')"), UsageError);
  for (const Unit u : alone.layout.backward()) {
    pass.gradients(u);
    pass.ready(u);
  }
  CHECK_THROWS_WITH_AS(pass.ready(alone.first), Contains("ready('first') outside a pass"), UsageError);
  CHECK_THROWS_WITH_AS(pass.gradients(alone.first), Contains("gradients('first') outside a pass"), UsageError);
  CHECK(alone.optimizer.step().applied());
}

TEST_CASE("gradients of a frozen tensor and a tensor of another unit's view are refused") {
  Alone alone;
  auto pass = alone.optimizer.backward();
  const auto gradients = pass.gradients(alone.last);
  CHECK_THROWS_WITH_AS(gradients[alone.layout.find("last.frozen")], Contains("'last.frozen' is frozen"), UsageError);
  CHECK_THROWS_WITH_AS(gradients[alone.layout.find("first.w")], Contains("'first.w' is not of unit 'last'"),
                       UsageError);
}

TEST_CASE("gradients of a unit cannot be accessed after ready()") {
  Alone alone;
  auto pass = alone.optimizer.backward();
  pass.gradients(alone.last);
  pass.ready(alone.last);
  CHECK_THROWS_WITH_AS(pass.gradients(alone.last), Contains("ready already"), UsageError);
}

TEST_CASE("a unit that is not in the layout is refused") {
  Alone alone;
  CHECK_THROWS_AS(static_cast<void>(alone.optimizer.gather(Unit{7})), LayoutError);
  auto pass = alone.optimizer.backward();
  CHECK_THROWS_AS(pass.gradients(Unit{-1}), LayoutError);
  CHECK_THROWS_AS(pass.ready(Unit{2}), LayoutError);
}

TEST_CASE("a step between two passes is refused with the number of micro-batches that are done") {
  Alone alone({.micro_batches = 3});
  CHECK_THROWS_WITH_AS(alone.optimizer.step(), Contains("step() after 0 of 3 passes"), UsageError);
  testing::run_pass(alone.optimizer, 0, 0);
  CHECK_THROWS_WITH_AS(alone.optimizer.step(), Contains("step() after 1 of 3 passes"), UsageError);
  testing::run_pass(alone.optimizer, 0, 1);
  testing::run_pass(alone.optimizer, 0, 2);
  CHECK_THROWS_WITH_AS(static_cast<void>(alone.optimizer.backward()),
                       Contains("all 3 passes of the step are done"), UsageError);
  CHECK(alone.optimizer.step().applied());
}

TEST_CASE("a second pass is refused while one is open") {
  Alone alone;
  auto pass = alone.optimizer.backward();
  CHECK_THROWS_WITH_AS(static_cast<void>(alone.optimizer.backward()),
                       Contains("still open: unit 'last' was never ready"), UsageError);
}

TEST_CASE("initialize in the middle of a step is refused") {
  Alone alone({.micro_batches = 2});
  testing::run_pass(alone.optimizer, 0, 0);
  CHECK_THROWS_WITH_AS(alone.optimizer.initialize(testing::made_up_weight), Contains("in the middle of a step"),
                       UsageError);
}

TEST_CASE("initialize throws CommError if another rank dropped, and both ranks can then start again") {
  Layout layout;
  for (const char* name : {"a", "b", "c"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});
  }
  std::atomic<bool> gathered = false;  // by rank 0, before rank 1 drops
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage3> optimizer(comm, layout, {}, Adam{}, {.bucket_bytes = 1, .timeout = std::chrono::seconds(20)});
    optimizer.initialize(testing::made_up_weight);
    static_cast<void>(optimizer.gather(Unit{0}));
    if (comm.rank() == 0) {
      static_cast<void>(optimizer.gather(Unit{1}));  // and the third unit's, which rank 1 never joins
      gathered = true;
      CHECK_THROWS_WITH_AS(optimizer.initialize(testing::made_up_weight), Contains("rank 1 dropped"), CommError);
    } else {
      while (!gathered) std::this_thread::yield();
      optimizer.drop_step();
    }
    optimizer.initialize(testing::made_up_weight);
    static_cast<void>(optimizer.gather(Unit{2}));
    testing::run_pass(optimizer, comm.rank(), 0);
    CHECK(optimizer.step().applied());
  });
}

TEST_CASE("no rule and too many rules are refused on every rank, with tensors and without") {
  Layout none;
  none.add_unit("a");
  for (const Layout& layout : {none, two_units()})
    for (const int rules : {0, 2})
      for (const std::string& error : errors_of(2, [&](Local& comm) {
             Sharded<Adam, Stage2>(comm, layout, {}, std::vector<Adam>(static_cast<std::size_t>(rules)));
           }))
        CHECK_MESSAGE(contains(error, rules == 0 ? "no rules were given" : "2 rules were given, but no tensor is of"), error);
  for (const std::string& error : errors_of(2, [&](Local& comm) {
         Sharded<Adam, Stage1>(comm, none, {}, std::vector<Adam>(comm.rank() == 1 ? 0 : 1));
       }))
    CHECK(contains(error, "no rules were given"));
}

TEST_CASE("a backward order that needs more slots than there are is refused and does not wait") {
  Self self;
  Layout layout;
  for (const char* name : {"a", "b", "c", "d"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});
  }
  Sharded<Adam, Stage2, Fp32, Self> optimizer(self, layout, {}, Adam{}, {.bucket_bytes = 1});
  optimizer.initialize(testing::made_up_weight);
  auto pass = optimizer.backward();
  pass.gradients(Unit{0});
  pass.gradients(Unit{1});
  CHECK_THROWS_WITH_AS(pass.gradients(Unit{2}), Contains("all 2 gradient slots are held"), UsageError);
}

TEST_CASE("Weights that are held too long at stage 3 are refused by name") {
  Self self;
  Layout layout;
  for (const char* name : {"a", "b", "c"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});
  }
  Sharded<Adam, Stage3, Fp32, Self> optimizer(self, layout, {}, Adam{}, {.bucket_bytes = 1, .prefetch = 1});
  optimizer.initialize(testing::made_up_weight);
  const auto a = optimizer.gather(Unit{0});
  const auto b = optimizer.gather(Unit{1});
  CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.gather(Unit{2})),
                       Contains("gather('c'): the slot that it needs still holds 'a', whose Weights are alive"),
                       UsageError);
}

TEST_CASE("a caller's buffer that is too small, misaligned, overlapping or unused is refused on every rank") {
  const Layout layout = ragged_layout();
  using Optimizer = Sharded<Adam, Stage1>;
  const Required required = Optimizer::required(layout, 2);
  std::vector<float> memory(4 * (required.parameters + 16));
  const auto build = [&](auto offset, auto length, auto gradient_offset) {
    return errors_of(2, [&](Local& comm) {
      Optimizer::Buffers buffers;
      std::vector<float> good(required.parameters), good_gradients(required.gradients);
      buffers.parameters = good;
      buffers.gradients = good_gradients;
      if (comm.rank() == 1) {
        buffers.parameters = std::span(memory).subspan(offset, length);
        buffers.gradients = std::span(memory).subspan(gradient_offset, required.gradients);
      }
      Optimizer optimizer(comm, layout, buffers, std::vector<Adam>(2));
    });
  };
  const index_t n = required.parameters;
  const auto small = build(0, n - 1, 2 * n);
  CHECK(contains(small[1], "buffer 'parameters' has " + std::to_string(n - 1) + " elements, but " + std::to_string(n)));
  CHECK(contains(small[0], "rank 1 could not be built: buffer 'parameters' has"));
  CHECK(contains(build(1, n, 2 * n + 64)[1], "buffer 'parameters' does not begin at a multiple of 16 bytes"));
  CHECK(contains(build(0, n, 4)[1], "buffers 'parameters' and 'gradients' overlap"));
  CHECK(contains(build(1, n, 2 * n)[0], "rank 1 could not be built"));
  std::vector<float> gradients(required.gradients);
  Self self;
  CHECK_THROWS_WITH_AS((Sharded<Adam, Stage2, Fp32, Self>(self, layout, {.parameters = {}, .gradients = gradients},
                                                          std::vector<Adam>(2))),
                       Contains("buffer 'gradients' is not used at this stage"), BufferError);
}

TEST_CASE("options, rules and groups that are out of range are refused at construction and by the step") {
  Self self;
  const Layout layout = ragged_layout();
  using Optimizer = Sharded<Adam, Stage1, Fp32, Self>;
  CHECK_THROWS_WITH_AS(Optimizer(self, layout, {}, std::vector<Adam>(2), {.micro_batches = 0}),
                       Contains("micro_batches"), OptionError);
  CHECK_THROWS_WITH_AS(Optimizer::plan(layout, 2, {.prefetch = -1}), Contains("prefetch"), OptionError);
  CHECK_THROWS_WITH_AS(Optimizer::required(layout, 0), Contains("at least 1 rank"), OptionError);
  CHECK_THROWS_WITH_AS(Optimizer(self, layout, {}, Adam{}),
                       Contains("'body.bias' is of hyperparameter group 1, but 1 rules"), OptionError);
  CHECK_THROWS_WITH_AS(Optimizer(self, layout, {}, std::vector<Adam>(2, Adam{.beta1 = 1.5f})), Contains("beta1"),
                       OptionError);
  CHECK_THROWS_WITH_AS((Sharded<Adam, Stage2, Fp32, Self>(self, Layout::flat(10), {}, Adam{})), Contains("flat layout"),
                       LayoutError);
  Alone alone;
  CHECK_THROWS_WITH_AS(alone.optimizer.rule(1), Contains("no hyperparameter group 1"), OptionError);
  alone.optimizer.rule().lr = -1;
  testing::run_pass(alone.optimizer, 0, 0);
  CHECK_THROWS_WITH_AS(alone.optimizer.step(), Contains("lr"), OptionError);
  alone.optimizer.rule().lr = 1;
  CHECK(alone.optimizer.step().applied());
}

TEST_CASE("a flat layout is accessed by range, other layouts by unit") {
  Self self;
  std::vector<float> p(10), g(10);
  Sharded<Adam, Stage1, Fp32, Self> flat(self, Layout::flat(10), {.parameters = p, .gradients = g}, Adam{});
  CHECK_THROWS_WITH_AS(static_cast<void>(flat.gather(0, 11)), Contains("gather(0, 11) is not within the buffer's 10"),
                       UsageError);
  {
    auto pass = flat.backward();
    CHECK_THROWS_WITH_AS(pass.gradients(Unit{0}), Contains("flat layout"), UsageError);
    CHECK_THROWS_WITH_AS(pass.ready(Unit{0}), Contains("flat layout"), UsageError);
    CHECK_THROWS_WITH_AS(pass.ready(5, 11), Contains("ready(5, 11) is not within"), UsageError);
    pass.ready(0, 5);
    CHECK_THROWS_WITH_AS(pass.ready(4, 10), Contains("ready(4, 10): part of it was ready"), UsageError);
    pass.ready(5, 10);
    CHECK_THROWS_WITH_AS(pass.ready(0, 10), Contains("outside a pass"), UsageError);
  }
  CHECK(flat.step().applied());
  Alone alone;
  auto pass = alone.optimizer.backward();
  CHECK_THROWS_WITH_AS(pass.ready(0, 1), Contains("use ready(unit)"), UsageError);
}

TEST_CASE("if ranks differ in layout, rule, stage, precision, options or hyperparameters, each error says how") {
  const Layout layout = ragged_layout();
  const std::vector<Adam> rules(2);
  const auto expect = [](const std::vector<std::string>& errors, const std::string& what, const std::string& other) {
    for (const std::string& error : errors) {
      CAPTURE(error);
      CHECK(contains(error, "ranks differ in " + what));
      CHECK(contains(error, other));
    }
  };
  expect(errors_of(3, [&](Local& comm) {
           Layout other = layout;
           if (comm.rank() == 2) other.add_unit("more");
           Sharded<Adam, Stage1>(comm, other, {}, rules);
         }),
         "layout", "rank 2 has 1");
  expect(errors_of(2, [&](Local& comm) {
           if (comm.rank() == 0) Sharded<Adam, Stage1>(comm, layout, {}, rules);
           else Sharded<AdamW, Stage1>(comm, layout, {}, std::vector<AdamW>(2));
         }),
         "rule", "rank 0 has Adam, rank 1 has AdamW");
  expect(errors_of(2, [&](Local& comm) {
           if (comm.rank() == 0) Sharded<Adam, Stage1>(comm, layout, {}, rules);
           else Sharded<Adam, Stage3>(comm, layout, {}, rules);
         }),
         "stage", "rank 0 has Stage1, rank 1 has Stage3");
  expect(errors_of(2, [&](Local& comm) {
           if (comm.rank() == 1) Sharded<Adam, Stage1>(comm, layout, {}, rules);
           else Sharded<Adam, Stage1, Bf16>(comm, layout, {}, rules);
         }),
         "precision", "rank 0 has Bf16, rank 1 has Fp32");
  expect(errors_of(2, [&](Local& comm) {
           Sharded<Adam, Stage1>(comm, layout, {}, rules, {.micro_batches = 1 + comm.rank()});
         }),
         "Options::micro_batches", "rank 0 has 1, rank 1 has 2");
  expect(errors_of(2, [&](Local& comm) {
           Sharded<Adam, Stage1>(comm, layout, {}, rules, {.loss_scale = {.least = comm.rank() == 0 ? 1 : 0.5}});
         }),
         "Options::loss_scale.least", "rank 0 has 1, rank 1 has 0.5");
  expect(errors_of(2, [&](Local& comm) {
           Sharded<Lars, Stage1>(comm, layout, {},
                                 std::vector<Lars>(2, {.trust_coefficient = comm.rank() == 0 ? 1e-3 : 0.5}));
         }),
         "Lars.trust_coefficient of group 0", "rank 0 has 0.001, rank 1 has 0.5");
  expect(errors_of(2,
                   [&](Local& comm) {
                     Sharded<Adam, Stage1>(
                         comm, layout, {},
                         std::vector<Adam>(2, Adam{.lr = 0.1f * static_cast<float>(1 + comm.rank())}));
                   }),
         "Adam.lr of group 0", "rank 0 has 0.10000000149011612, rank 1 has 0.20000000298023224");
}

TEST_CASE("the step finds a learning rate that differs between ranks, and applies nothing") {
  const Layout layout = ragged_layout();
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage2> optimizer(comm, layout, {}, std::vector<Adam>(2));
    optimizer.initialize(testing::made_up_weight);
    const auto before = testing::parameters_of(optimizer);
    optimizer.rule(0).lr = comm.rank() == 1 ? 0.5f : 0.25f;
    testing::run_pass(optimizer, 0, comm.rank());
    CHECK_THROWS_WITH_AS(optimizer.step(), Contains("ranks differ in Adam.lr of group 0: rank 0 has 0.25, rank 1 has 0.5"), AgreementError);
    CHECK(testing::parameters_of(optimizer) == before);
    CHECK(optimizer.steps() == 0);
    optimizer.rule(0).lr = 0.25f;
    testing::run_pass(optimizer, 0, comm.rank());
    CHECK(optimizer.step().applied());
  });
}

template <class Stage, class Precision>
void check_skipped(float poison) {
  const Layout layout = ragged_layout();
  const Tensor victim = layout.find("body.bias");
  run_ranks(3, [&](Local& comm) {
    std::vector<std::vector<float>> runs;
    for (const bool poisoned : {true, false}) {
      Sharded<Adam, Stage, Precision> optimizer(comm, layout, {}, std::vector<Adam>(2, Adam{.lr = 0.1f}));
      optimizer.initialize(testing::made_up_weight);
      testing::run_steps(optimizer, comm.rank(), 3, 1, 1);
      if (poisoned) {
        const auto before = testing::parameters_of(optimizer);
        testing::run_pass(optimizer, 1, comm.rank(), [&](index_t step, index_t leaf, Tensor t, index_t i) {
          return leaf == 1 && t == victim && i == 36 ? poison : testing::made_up_gradient(step, leaf, t, i);
        });
        const auto report = optimizer.step();
        CHECK_FALSE(report.applied());
        CHECK(report.first_non_finite() == "body.bias");
        CHECK(report.step() == 1);
        CHECK(testing::parameters_of(optimizer) == before);
      }
      testing::run_pass(optimizer, 2, comm.rank());
      CHECK(optimizer.step().step() == 2);
      runs.push_back(testing::parameters_of(optimizer));
    }
    CHECK(runs[0] == runs[1]);  // state and step count did not change either
  });
}

TEST_CASE("one NaN or infinite gradient on one rank makes all ranks skip the step and names the tensor") {
  for (const float poison : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()}) {
    check_skipped<Stage0, Fp32>(poison);
    check_skipped<Stage1, Bf16>(poison);
    check_skipped<Stage2, Fp32>(poison);
    check_skipped<Stage3, Bf16>(poison);
  }
}

// Rank r fails in its backward of step 1, in unit `fails_at(r)` (-1: it does not fail). Then all ranks try again.
template <class Stage>
void check_dropped(int world, int (*fails_at)(int)) {
  const Layout layout = ragged_layout();
  run_ranks(world, [&](Local& comm) {
    const auto make = [&](auto& optimizer) { optimizer.initialize(testing::made_up_weight); };
    const std::vector<Adam> rules(2, Adam{.lr = 0.1f});
    const Options options{.bucket_bytes = 300};
    Sharded<Adam, Stage> calm(comm, layout, {}, rules, options), shaken(comm, layout, {}, rules, options);
    make(calm);
    make(shaken);
    const auto expected = testing::run_steps(calm, comm.rank(), world, 2, 1).parameters;

    testing::run_steps(shaken, comm.rank(), world, 1, 1);
    std::string error;
    try {
      for (const Unit u : layout.forward()) static_cast<void>(shaken.gather(u));
      auto pass = shaken.backward();
      for (const Unit u : layout.backward()) {
        if (u.index == fails_at(comm.rank())) throw std::runtime_error("the caller's backward failed");
        const auto weights = shaken.gather(u);
        for (float& x : pass.gradients(u).trainable()) x = 1000;
        pass.ready(u);
      }
      shaken.step();
    } catch (const std::exception& caught) {
      error = caught.what();
    }
    CAPTURE(error);
    if (fails_at(comm.rank()) >= 0)
      CHECK((contains(error, "the caller's backward failed") || contains(error, "dropped")));
    else
      CHECK(contains(error, "dropped"));
    for (const Unit u : layout.forward()) static_cast<void>(shaken.gather(u));
    testing::run_pass(shaken, 1, comm.rank());
    CHECK(shaken.step().step() == 2);
    CHECK(testing::parameters_of(shaken) == expected);
  });
}

TEST_CASE("a pass that fails on every rank, in any unit, can be followed by a good one") {
  const auto somewhere = [](int rank) { return (rank + 1) % 4; };
  check_dropped<Stage0>(3, somewhere);
  check_dropped<Stage1>(4, somewhere);
  check_dropped<Stage2>(2, somewhere);
  check_dropped<Stage3>(3, somewhere);
}

TEST_CASE("a pass that fails on one rank ends the step of all with an error, and the next step is good") {
  const auto one = [](int rank) { return rank == 1 ? 1 : -1; };
  check_dropped<Stage0>(3, one);
  check_dropped<Stage1>(2, one);
  check_dropped<Stage2>(4, one);
  check_dropped<Stage3>(3, one);
}

TEST_CASE("an optimizer may be destroyed while its collectives are in flight") {
  for (int round = 0; round < 20; ++round) {
    const Layout layout = ragged_layout();
    std::atomic<int> informed = 0;
    run_ranks(3, [&](Local& comm) {
      Sharded<Adam, Stage2> optimizer(comm, layout, {}, std::vector<Adam>(2), {.bucket_bytes = 1});
      optimizer.initialize(testing::made_up_weight);
      auto pass = optimizer.backward();
      pass.gradients(Unit{3});
      pass.ready(Unit{3});  // posts the reduction
      if (comm.rank() == 0) return;
      try {
        for (int u = 2; u >= 0; --u) {
          pass.gradients(Unit{u});
          pass.ready(Unit{u});
        }
        optimizer.step();
      } catch (const CommError& error) {
        informed += contains(error.what(), "rank 0");
      }
    });
    CHECK(informed == 2);
  }
}

TEST_CASE("a flat layout without the caller's gradient buffer is refused, since it would have no gradients") {
  using Optimizer = Sharded<Adam, Stage1, Fp32, Self>;
  Self self;
  std::vector<float> p(100), g(100);
  CHECK_THROWS_WITH_AS(Optimizer(self, Layout::flat(100), {.parameters = p}, Adam{}), Contains("{.gradients = g}"),
                       BufferError);
  CHECK_NOTHROW(Optimizer(self, Layout::flat(100), {.parameters = p, .gradients = g}, Adam{}));
}

TEST_CASE("a buffer can be a vector, an array or a span of any extent") {
  using Optimizer = Sharded<Adam, Stage1, Fp32, Self>;
  Self self;
  std::vector<float> vector(128);
  alignas(16) std::array<float, 128> array{};
  alignas(16) float plain[128] = {};
  const auto parameters_of = [&](const Optimizer::Buffers& buffers) {
    Optimizer optimizer(self, Layout::flat(128), buffers, Adam{});
    optimizer.initialize(testing::made_up_weight);
    return optimizer.gather(0, 128).data();
  };
  CHECK(parameters_of({.parameters = vector, .gradients = array}) == vector.data());
  CHECK(parameters_of({.parameters = array, .gradients = plain}) == array.data());
  CHECK(parameters_of({.parameters = plain, .gradients = vector}) == plain);
  CHECK(parameters_of({.parameters = std::span<float, 128>(array), .gradients = std::span(plain)}) == array.data());
  CHECK_NOTHROW(Optimizer(self, Layout::flat(128), {.parameters = {}, .gradients = vector}, Adam{}));
}

TEST_CASE("a model without tensors can be trained") {
  Self self;
  Sharded<Adam, Stage1, Fp32, Self> optimizer(self, Layout::flat(0), {}, Adam{});
  const auto weights = optimizer.gather(Unit{0});
  CHECK(weights.trainable().empty());
  static_cast<void>(optimizer.backward());
  CHECK(optimizer.step().applied());
}

TEST_CASE("ranks with the same buffer are refused, each by name") {
  using Optimizer = Sharded<Adam, Stage0>;
  const Layout layout = two_units();
  const Required need = Optimizer::required(layout, 2);
  std::vector<float> one(need.parameters), two(need.parameters), three(need.parameters);
  const auto build = [&](Local& comm, bool apart) {
    const bool swap = comm.rank() == 1;
    Optimizer(comm, layout, {.parameters = apart && swap ? two : one}, Adam{});
  };
  for (const std::string& error : errors_of(2, [&](Local& comm) { build(comm, false); }))
    CHECK(contains(error, "ranks 0 and 1 were handed buffers that overlap"));
  for (const std::string& error : errors_of(2, [&](Local& comm) { build(comm, true); })) CHECK(error.empty());
  // the parameters of one rank are the gradients of the other
  for (const std::string& error : errors_of(2, [&](Local& comm) {
         if (comm.rank() == 0)
           Optimizer(comm, layout, {.parameters = one, .gradients = two}, Adam{});
         else
           Optimizer(comm, layout, {.parameters = three, .gradients = std::span(one).first(need.gradients)}, Adam{});
       }))
    CHECK(contains(error, "ranks 0 and 1 were handed buffers that overlap"));
}

TEST_CASE("any two ranks with the same buffer are found, neighbors or not") {
  using Optimizer = Sharded<Adam, Stage0>;
  const Layout layout = two_units();
  for (int other = 0; other < 3; ++other) {  // rank 3 shares a buffer with each of the others in turn
    std::vector<std::vector<float>> memory(4, std::vector<float>(Optimizer::required(layout, 4).parameters));
    for (const std::string& error : errors_of(4, [&](Local& comm) {
           Optimizer(comm, layout, {.parameters = memory[comm.rank() == 3 ? other : comm.rank()]}, Adam{});
         }))
      CHECK(contains(error, "ranks " + std::to_string(other) + " and 3 were handed buffers that overlap"));
  }
}

TEST_CASE("it is refused that some ranks pass a buffer and others do not") {
  const Layout layout = two_units();
  std::vector<float> gradients(Sharded<Adam, Stage1>::required(layout, 2).gradients);
  for (const std::string& error : errors_of(2, [&](Local& comm) {
         if (comm.rank() == 0)
           Sharded<Adam, Stage1>(comm, layout, {}, Adam{});
         else
           Sharded<Adam, Stage1>(comm, layout, {.gradients = gradients}, Adam{});
       }))
    CHECK(contains(error, "ranks differ in buffers handed in: rank 0 has none, rank 1 has gradients"));
}

TEST_CASE("ranks with different initial weights are found at construction") {
  const Layout layout = two_units();
  for (const std::string& error : errors_of(3, [&](Local& comm) {
         std::vector<float> p(Sharded<Adam, Stage1>::required(layout, 3).parameters, 1.0f);
         if (comm.rank() == 2) p[77] = 2;
         Sharded<Adam, Stage1>(comm, layout, {.parameters = p}, Adam{});
       }))
    CHECK(contains(error, "ranks differ in the weights they begin with"));
}

TEST_CASE("run_ranks rethrows the error of the rank that caused it") {
  const Layout layout = two_units();
  for (int round = 0; round < 50; ++round)
    CHECK_THROWS_WITH_AS(run_ranks(3, [&](Local& comm) {
                           std::vector<float> g(comm.rank() == 1 ? 5 : 1000);
                           Sharded<Adam, Stage1>(comm, layout, {.gradients = g}, Adam{});
                         }),
                         Contains("'gradients' has 5 elements"), BufferError);
}

TEST_CASE("all ranks refuse a timeout of zero or less, and an unlimited timeout is legal") {
  const Layout layout = two_units();
  for (const std::string& error : errors_of(2, [&](Local& comm) {
         Sharded<Adam, Stage1>(comm, layout, {}, Adam{}, {.timeout = std::chrono::seconds(comm.rank())});
       }))
    CHECK(contains(error, "timeout must be greater than 0"));
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage1> optimizer(comm, layout, {}, Adam{}, {.timeout = std::chrono::nanoseconds::max()});
    optimizer.initialize(testing::made_up_weight);
    testing::run_pass(optimizer, 0, comm.rank());
    CHECK(optimizer.step().applied());
  });
}

TEST_CASE("a hyperparameter without effect on the first step is compared at construction too") {
  const Layout layout = two_units();
  for (const std::string& error : errors_of(2, [&](Local& comm) {
         Sharded<Sgd, Stage1>(comm, layout, {}, Sgd{.lr = 0.1, .momentum = comm.rank() == 0 ? 0.9 : 0.5});
       }))
    CHECK(contains(error, "ranks differ in Sgd.momentum of group 0: rank 0 has 0.9, rank 1 has 0.5"));
}

TEST_CASE("options that differ are shown with all their digits") {
  const Layout layout = two_units();
  for (const std::string& error : errors_of(2, [&](Local& comm) {
         Sharded<Adam, Stage1>(comm, layout, {}, Adam{}, {.clip_norm = comm.rank() == 0 ? 1e-7 : 2e-7});
       })) {
    CHECK(contains(error, "Options::clip_norm: rank 0 has 1e-07, rank 1 has 2e-07"));
  }
}

TEST_CASE("a moved-from pass is refused with a message that says so") {
  Alone alone;
  auto pass = alone.optimizer.backward();
  const auto moved = std::move(pass);
  CHECK_THROWS_WITH_AS(pass.ready(alone.last), Contains("moved from"), UsageError);
  CHECK_THROWS_WITH_AS(static_cast<void>(pass.gradients(alone.last)), Contains("moved from"), UsageError);
}

TEST_CASE("step() reports the reason of a dropped pass, also after a good pass") {
  Alone alone({.micro_batches = 2});
  {
    auto pass = alone.optimizer.backward();
    pass.gradients(alone.last);
    pass.ready(alone.last);
  }
  testing::run_pass(alone.optimizer, 0, 0);
  CHECK_THROWS_WITH_AS(alone.optimizer.step(), Contains("unit 'first' was never ready"), UsageError);
  testing::run_pass(alone.optimizer, 0, 1);
  CHECK(alone.optimizer.step().applied());
}

TEST_CASE("any prefetch is legal: beyond the size of the model it has no further effect") {
  const Layout layout = ragged_layout();
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage3> optimizer(comm, layout, {}, std::vector<Adam>(2),
                                    {.bucket_bytes = 1, .prefetch = std::numeric_limits<int>::max()});
    optimizer.initialize(testing::made_up_weight);
    testing::run_pass(optimizer, 0, comm.rank());
    CHECK(optimizer.step().applied());
  });
}

TEST_CASE("a non-finite gradient of a flat layout is named with its offset") {
  Self self;
  std::vector<float> p(1000), g(1000);
  Sharded<Adam, Stage1, Fp32, Self> optimizer(self, Layout::flat(1000), {.parameters = p, .gradients = g}, Adam{});
  auto pass = optimizer.backward();
  g[777] = std::numeric_limits<float>::quiet_NaN();
  pass.ready(0, 1000);
  CHECK(optimizer.step().first_non_finite() == "flat.buffer[777]");
}

// The ranks whose bit in `who` is set fail in the forward of the step's second micro-batch. All ranks drop the step and
// repeat it; the result must be that of an undisturbed run.
template <class Stage>
void check_forward_fails(int world, unsigned who) {
  const Layout layout = ragged_layout();
  run_ranks(world, [&](Local& comm) {
    const std::vector<Adam> rules(2, Adam{.lr = 0.1f});
    const Options options{.micro_batches = 2, .bucket_bytes = 300};
    Sharded<Adam, Stage> calm(comm, layout, {}, rules, options), shaken(comm, layout, {}, rules, options);
    calm.initialize(testing::made_up_weight);
    shaken.initialize(testing::made_up_weight);
    const auto expected = testing::run_steps(calm, comm.rank(), world, 1, 2).parameters;
    try {
      testing::run_pass(shaken, 0, comm.rank());
      static_cast<void>(shaken.gather(Unit{0}));
      if (who >> comm.rank() & 1) throw std::runtime_error("the caller's forward failed");
      testing::run_pass(shaken, 0, world + comm.rank());
      shaken.step();
      FAIL_CHECK("the others must learn of it");
    } catch (const std::exception&) {
      shaken.drop_step();
    }
    CHECK(testing::run_steps(shaken, comm.rank(), world, 1, 2).parameters == expected);
  });
}

TEST_CASE("after an exception in the caller's forward, drop_step and the same step again work at every stage") {
  for (const unsigned who : {0b010u, 0b111u}) {
    check_forward_fails<Stage0>(3, who);
    check_forward_fails<Stage1>(3, who);
    check_forward_fails<Stage2>(3, who);
    check_forward_fails<Stage3>(3, who);
  }
}

// One rank of three holds Weights too long at stage 3, with one unit per bucket and a prefetch of one. `train` runs the
// second of two steps; the result must be that of the same steps without held Weights.
template <class Train>
void check_kept(Train train) {
  Layout layout;
  for (const char* name : {"a", "b", "c", "d"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
  }
  run_ranks(3, [&](Local& comm) {
    using Optimizer = Sharded<Adam, Stage3>;
    const Options options{.bucket_bytes = 1, .timeout = std::chrono::seconds(60)};
    Optimizer calm(comm, layout, {}, Adam{.lr = 0.1f}, options), shaken(comm, layout, {}, Adam{.lr = 0.1f}, options);
    calm.initialize(testing::made_up_weight);
    shaken.initialize(testing::made_up_weight);
    const auto expected = testing::run_steps(calm, comm.rank(), 3, 2, 1).parameters;
    testing::run_steps(shaken, comm.rank(), 3, 1, 1);
    train(shaken, comm.rank());
    CHECK(testing::parameters_of(shaken) == expected);
  });
}

constexpr const char* dropped_its_step = "rank 1 dropped";

TEST_CASE("a rank that holds Weights too long in forward can release them and continue; other ranks are not affected") {
  check_kept([](auto& optimizer, int rank) {
    std::deque<Weights<float>> kept;
    int refused = 0;
    for (const Unit u : optimizer.layout().forward()) {
      try {
        kept.push_back(optimizer.gather(u));
      } catch (const UsageError&) {
        ++refused;
        kept.clear();
        kept.push_back(optimizer.gather(u));
      }
      if (rank != 1) kept.clear();
    }
    CHECK(refused == (rank == 1 ? 1 : 0));
    kept.clear();
    testing::run_pass(optimizer, 1, rank);
    optimizer.step();
  });
}

TEST_CASE(
    "if a rank that holds Weights too long in forward drops the step, the others' step ends, and all can repeat it") {
  check_kept([](auto& optimizer, int rank) {
    try {
      std::deque<Weights<float>> kept;
      for (const Unit u : optimizer.layout().forward()) {
        kept.push_back(optimizer.gather(u));
        if (rank != 1) kept.clear();
      }
      FAIL_CHECK("the others need rank 1");
    } catch (const UsageError& error) {
      CHECK(rank == 1);
      CHECK(contains(error.what(), "gather('c'): the slot that it needs still holds 'a'"));
      optimizer.drop_step();
    } catch (const CommError& error) {
      CHECK(rank != 1);
      CHECK(contains(error.what(), dropped_its_step));
    }
    testing::run_pass(optimizer, 1, rank);
    optimizer.step();
  });
}

TEST_CASE(
    "if a rank that holds Weights too long in backward drops the pass, others get an error, and all can repeat it") {
  check_kept([](auto& optimizer, int rank) {
    const Layout& layout = optimizer.layout();
    for (const Unit u : layout.forward()) static_cast<void>(optimizer.gather(u));
    try {
      std::deque<Weights<float>> kept;
      auto pass = optimizer.backward();
      for (const Unit u : layout.backward()) {
        kept.push_back(optimizer.gather(u));
        if (rank != 1) kept.clear();
        for (float& g : pass.gradients(u).trainable()) g = 1000;
        pass.ready(u);
      }
      FAIL_CHECK("the others need rank 1");
    } catch (const UsageError& error) {
      CHECK(rank == 1);
      CHECK(contains(error.what(), "gather('b'): the slot that it needs still holds 'd'"));
    } catch (const CommError& error) {
      CHECK(rank != 1);
      CHECK(contains(error.what(), dropped_its_step));
    }
    testing::run_pass(optimizer, 1, rank);
    optimizer.step();
  });
}

TEST_CASE("a step is refused while held Weights block a gather that others have posted, and succeeds afterwards") {
  check_kept([](auto& optimizer, int rank) {
    const Layout& layout = optimizer.layout();
    for (const Unit u : layout.forward()) static_cast<void>(optimizer.gather(u));
    auto pass = optimizer.backward();
    std::deque<Weights<float>> kept;
    for (const Unit u : layout.backward()) {
      // The gather of 'b' is prefetched into the slot of 'd', and no rank asks for 'b'.
      if (u.index >= 2) kept.push_back(optimizer.gather(u));
      if (rank != 1) kept.clear();
      index_t i = 0;
      for (float& g : pass.gradients(u).trainable()) g = testing::made_up_gradient(1, rank, Tensor{u.index}, i++);
      pass.ready(u);
    }
    if (rank == 1) {
      CHECK_THROWS_WITH_AS(
          optimizer.step(),
          "the gather of 'b', which is prefetched, needs the slot of 'd', whose Weights are alive: "
          "release them first",
          UsageError);
      kept.clear();
    }
    CHECK(optimizer.step().applied());
  });
}

TEST_CASE("if a rank that holds Weights too long leaves, the others get the reason at once") {
  Layout layout;
  for (const char* name : {"a", "b", "c", "d"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
  }
  const auto began = std::chrono::steady_clock::now();
  std::atomic<int> woken = 0;
  const auto train = [&] {
    run_ranks(3, [&](Local& comm) {
      Sharded<Adam, Stage3> optimizer(comm, layout, {}, Adam{},
                                      {.bucket_bytes = 1, .timeout = std::chrono::seconds(60)});
      optimizer.initialize(testing::made_up_weight);
      std::deque<Weights<float>> kept;
      try {
        for (const Unit u : layout.forward()) {
          kept.push_back(optimizer.gather(u));
          if (comm.rank() != 1) kept.clear();
        }
      } catch (const CommError& error) {
        woken += contains(error.what(), "gather('c'): the slot that it needs still holds 'a'");
        throw;
      }
    });
  };
  CHECK_THROWS_WITH_AS(train(), Contains("gather('c'): the slot that it needs still holds 'a'"), UsageError);
  CHECK(woken == 2);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(30));
}

}  // namespace
}  // namespace tessera
