#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "training.hpp"

namespace tessera::engine {
namespace {

struct Fixture {
  Self self;
  Layout layout;
  Sharded<Sgd, Stage1, Fp32, Self> optimizer;

  static Layout one_unit() {
    Layout layout;
    layout.add_unit("only");
    layout.add_tensor("w", {4});
    return layout;
  }
  Fixture() : layout(one_unit()), optimizer(self, layout, {}, Sgd{}) {
    optimizer.initialize(testing::made_up_weight);
  }
};

TEST_CASE("a pass can be moved, and ends once") {
  Fixture f;
  auto first = f.optimizer.backward();
  auto second = std::move(first);
  second.gradients(Unit{0});
  second.ready(Unit{0});
  CHECK(f.optimizer.step().applied());
}

TEST_CASE("a pass that is destroyed unfinished is dropped, and a new pass starts without its gradients") {
  Fixture f;
  {
    auto pass = f.optimizer.backward();
    pass.gradients(Unit{0})[Tensor{0}][0] = 99;
  }
  auto pass = f.optimizer.backward();
  CHECK(pass.gradients(Unit{0})[Tensor{0}][0] == 0);
  pass.ready(Unit{0});
  CHECK(f.optimizer.step().gradient_norm() == 0);
}

TEST_CASE("an old pass neither marks units of the open one nor drops it") {
  Fixture f;
  auto old = f.optimizer.backward();
  old.gradients(Unit{0});
  old.ready(Unit{0});
  CHECK(f.optimizer.step().applied());
  f.optimizer.finish();
  {
    auto pass = f.optimizer.backward();
    CHECK_THROWS_WITH_AS(old.gradients(Unit{0}), doctest::Contains("outside a pass"), UsageError);
    { const auto gone = std::move(old); }
    pass.gradients(Unit{0});
    pass.ready(Unit{0});
  }
  CHECK(f.optimizer.step().step() == 2);
}

TEST_CASE("gradients can be requested again until ready, and are cleared only the first time") {
  Fixture f;
  auto pass = f.optimizer.backward();
  pass.gradients(Unit{0})[Tensor{0}][2] += 3;
  pass.gradients(Unit{0})[Tensor{0}][2] += 4;
  pass.ready(Unit{0});
  CHECK(f.optimizer.step().gradient_norm() == 7);
}

Layout tied_units() {
  Layout layout;
  for (const char* name : {"embedding", "body", "head"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
  }
  layout.tie(Unit{2}, Unit{0});
  return layout;
}

TEST_CASE_TEMPLATE("a trainer that does not gather what a step changed is refused at every stage", Stage, Stage0,
                   Stage1, Stage2, Stage3) {
  const Layout layout = tied_units();
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage> optimizer(comm, layout, {}, Adam{}, {.bucket_bytes = 1});
    optimizer.initialize(testing::made_up_weight);
    const auto run_pass = [&](std::initializer_list<int> gathered) {
      for (const int u : gathered) static_cast<void>(optimizer.gather(Unit{u}));
      auto pass = optimizer.backward();
      for (const Unit u : layout.backward()) {
        pass.gradients(u);
        pass.ready(u);
      }
      optimizer.step();
    };
    CHECK_NOTHROW(run_pass({}));  // initialize's weights have not changed
    CHECK_THROWS_WITH_AS(run_pass({0, 2}), doctest::Contains("gradients('body'): the unit was not gathered since"),
                         UsageError);
    CHECK_NOTHROW(run_pass({1}));  // the weights are still the same
    CHECK_THROWS_WITH_AS(run_pass({1, 2}), doctest::Contains("gradients('head'): its tied unit 'embedding' was not"),
                         UsageError);
    CHECK_NOTHROW(run_pass({0}));
    optimizer.finish();
    CHECK_NOTHROW(run_pass({}));
    CHECK(optimizer.steps() == 4);
  });
}

TEST_CASE("further passes of a step, and passes after a step that was not applied, need no new gathers") {
  Fixture f;
  Sharded<Sgd, Stage1, Fp32, Self> optimizer(f.self, f.layout, {}, Sgd{.lr = 1}, {.micro_batches = 2});
  optimizer.initialize(testing::made_up_weight);
  const auto run_step = [&](float gradient) {
    for (int k = 0; k < 2; ++k) {
      auto pass = optimizer.backward();
      pass.gradients(Unit{0})[Tensor{0}][0] = gradient;
      pass.ready(Unit{0});
    }
    return optimizer.step().applied();
  };
  CHECK_FALSE(run_step(std::numeric_limits<float>::infinity()));
  CHECK(run_step(1));
  CHECK_THROWS_AS(run_step(1), UsageError);
  static_cast<void>(optimizer.gather(Unit{0}));
  CHECK(run_step(1));
}

TEST_CASE("a flat layout's range that was not gathered since the last step is refused by ready()") {
  std::vector<std::string> errors(2);
  run_ranks(2, [&](Local& comm) {
    std::vector<float> p(1000, 1.0f), g(1000);
    Sharded<Sgd, Stage1> optimizer(comm, Layout::flat(1000), {.parameters = p, .gradients = g}, Sgd{.lr = 0.5});
    const auto run_step = [&] {
      auto pass = optimizer.backward();
      for (float& x : g) x = 1;
      pass.ready(500, 1000);
      pass.ready(0, 500);
      optimizer.step();
    };
    run_step();
    static_cast<void>(optimizer.gather(400, 1000));
    try {
      run_step();
    } catch (const UsageError& error) {
      errors[static_cast<std::size_t>(comm.rank())] = error.what();
    }
    static_cast<void>(optimizer.gather(0, 400));
    run_step();
    optimizer.finish();
    CHECK(p == std::vector<float>(1000, 0.0f));
  });
  for (const std::string& error : errors) CHECK(error.find("ready(0, 500): element 0 was not gathered since") == 0);
}

// Trains in the caller's flat buffer. write(g, call) writes a step's gradients and begins its backward with call().
template <class Stage, class Write>
std::vector<float> train_flat(const Options& options, const PassOptions& pass_options, Write write) {
  std::vector<float> result;
  run_ranks(2, [&](Local& comm) {
    std::vector<float> p(1000, 1.0f), g(1000);
    Sharded<Sgd, Stage> optimizer(comm, Layout::flat(1000), {.parameters = p, .gradients = g}, Sgd{.lr = 0.5}, options);
    for (int step = 0; step < 3; ++step) {
      static_cast<void>(optimizer.gather(0, 1000));
      std::optional<typename Sharded<Sgd, Stage>::Pass> pass;
      write(g, [&] { pass.emplace(optimizer.backward(pass_options)); });
      pass->ready(0, 1000);
      const auto report = optimizer.step();
      CHECK(report.applied());
      CHECK(report.gradient_norm() == doctest::Approx(2.5 * std::sqrt(1000.0)));
    }
    optimizer.finish();
    if (comm.rank() == 0) result = p;
  });
  return result;
}

TEST_CASE_TEMPLATE("a trainer can clear and accumulate gradients itself in one pass, as sums or means", Stage, Stage0,
                   Stage1) {
  const Options options{.bucket_bytes = 256, .check_gradients = true};
  // Micro-batches with the gradients 1 to 4.
  const auto sums_around = [](std::vector<float>& g, auto backward) {
    backward();
    std::fill(g.begin(), g.end(), 0.0f);
    for (int k = 1; k <= 4; ++k)
      for (float& x : g) x += static_cast<float>(k);
  };
  const auto sums_before = [&](std::vector<float>& g, auto backward) {
    sums_around(g, [] {});
    backward();
  };
  const auto means = [&](std::vector<float>& g, auto backward) {
    sums_around(g, [] {});
    for (float& x : g) x /= 4;
    backward();
  };
  const std::vector<float> expected(1000, 1 - 3 * 0.5f * 2.5f);
  CHECK(train_flat<Stage>(options, {.zero = false, .sum_of = 4}, sums_around) == expected);
  CHECK(train_flat<Stage>(options, {.zero = false, .sum_of = 4}, sums_before) == expected);
  CHECK(train_flat<Stage>(options, {.zero = false}, means) == expected);
  CHECK(train_flat<Stage>(options, {.sum_of = 4}, sums_around) == expected);
  CHECK_THROWS_WITH_AS(train_flat<Stage>(options, {.sum_of = 4}, sums_before),
                       doctest::Contains("'flat.buffer[0...128)' was written before backward()"), UsageError);
}

TEST_CASE("units keep the content of the caller's buffer too, except skipped units, which count as zeros") {
  const Layout layout = tied_units();
  std::vector<float> p(static_cast<std::size_t>(layout.parameter_elements()), 1.0f), g(p.size());
  Self self;
  Sharded<Sgd, Stage1, Fp32, Self> optimizer(self, layout, {.parameters = p, .gradients = g}, Sgd{.lr = 0.5});
  std::fill(g.begin(), g.end(), 3.0f);
  auto pass = optimizer.backward({.zero = false});
  pass.gradients(Unit{2});
  pass.ready(Unit{2});
  pass.skip(Unit{1});
  pass.gradients(Unit{0});
  pass.ready(Unit{0});
  CHECK(optimizer.step().gradient_norm() == doctest::Approx(3 * std::sqrt(200.0)));
  optimizer.finish();
  CHECK(p[0] == -0.5f);
  CHECK(p[static_cast<std::size_t>(layout.offset(Tensor{1}))] == 1);
  CHECK(p[static_cast<std::size_t>(layout.offset(Tensor{2}))] == -0.5f);
}

TEST_CASE("sums of several micro-batches are divided before they are rounded to 16 bits") {
  const Layout layout = tied_units();
  run_ranks(2, [&](Local& comm) {
    Sharded<Sgd, Stage2, Fp16> optimizer(comm, layout, {}, Sgd{}, {.loss_scale = {.initial = 1, .dynamic = false}});
    optimizer.initialize(testing::made_up_weight);
    auto pass = optimizer.backward({.sum_of = 4});
    for (const Unit u : layout.backward()) {
      for (float16& x : pass.gradients(u).trainable()) x = float16(40000.0f);  // the sum of two overflows float16
      pass.ready(u);
    }
    const auto report = optimizer.step();
    CHECK(report.applied());
    CHECK(report.gradient_norm() == doctest::Approx(10000 * std::sqrt(300.0)));
  });
}

TEST_CASE("gradients of the caller cannot be kept in slots") {
  const auto refused = [&]<class Stage>(Stage) {
    Self self;
    Sharded<Sgd, Stage, Fp32, Self> optimizer(self, tied_units(), {}, Sgd{});
    optimizer.initialize(testing::made_up_weight);
    CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.backward({.zero = false})),
                         doctest::Contains("backward({.zero = false}) at Stage"), UsageError);
    testing::run_pass(optimizer, 0, 0);
    CHECK(optimizer.step().applied());
  };
  refused(Stage2{});
  refused(Stage3{});
}

TEST_CASE_TEMPLATE("ranks that sum different numbers of micro-batches get an error, and nothing is applied", Precision,
                   Fp32, Bf16) {
  const Layout layout = tied_units();
  run_ranks(2, [&](Local& comm) {
    Sharded<Sgd, Stage2, Precision> optimizer(comm, layout, {}, Sgd{});
    optimizer.initialize(testing::made_up_weight);
    {
      auto pass = optimizer.backward({.sum_of = 1 + comm.rank()});
      for (const Unit u : layout.backward()) {
        pass.gradients(u);
        pass.ready(u);
      }
    }
    CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.step()),
                         doctest::Contains("the step's micro-batches: rank 0 has 2, rank 1 has 4"), AgreementError);
    CHECK(testing::run_steps(optimizer, comm.rank(), 2, 1, 1).applied[0]);
  });
}

TEST_CASE("a rank whose backward is refused for its gradients can clear them and continue, while the others wait") {
  run_ranks(2, [&](Local& comm) {
    std::vector<float> gradients(4096);
    Sharded<Sgd, Stage1> optimizer(comm, Layout::flat(4096), {.gradients = gradients}, Sgd{},
                                   {.check_weights = 1, .check_gradients = true});
    optimizer.initialize(testing::made_up_weight);
    if (comm.rank() == 0) {
      gradients[3] = 1;
      CHECK_THROWS_AS(static_cast<void>(optimizer.backward()), UsageError);
      gradients[3] = 0;
    }
    static_cast<void>(optimizer.gather(0, 4096));
    auto pass = optimizer.backward();
    pass.ready(0, 4096);
    CHECK(optimizer.step().applied());
  });
}

TEST_CASE_TEMPLATE("gradients written before clearing are found, in every pass and after a dropped step", Stage,
                   Stage0, Stage1) {
  const Layout layout = tied_units();
  for (const int passes : {1, 3}) {
    std::vector<float> g(static_cast<std::size_t>(layout.trainable_elements()), 1.0f);
    Self self;
    Sharded<Sgd, Stage, Fp32, Self> optimizer(self, layout, {.gradients = g}, Sgd{.lr = 0.1},
                                              {.micro_batches = passes, .check_gradients = true});
    optimizer.initialize(testing::made_up_weight);
    for (int step = 0; step < 2; ++step) {
      for (int k = 0; k < passes; ++k) {
        testing::run_pass(optimizer, step, k);
        if (k < passes - 1) std::fill(g.begin(), g.end(), 0.0f);  // as some trainers do
      }
      CHECK(optimizer.step().applied());
    }
    const Tensor body{1};
    for (int k = 0; k < passes; ++k) {
      g[static_cast<std::size_t>(layout.offset(body)) + 3] = 100;
      CHECK_THROWS_WITH_AS(testing::run_pass(optimizer, 2, k),
                           doctest::Contains("'body.w' was written before backward() or gradients(unit)"),
                           UsageError);
      testing::run_pass(optimizer, 2, 0);  // the pass was dropped, so the buffer's content is unknown
      for (int done = 1; done <= k; ++done) testing::run_pass(optimizer, 2, done);
      if (k < passes - 1) optimizer.drop_step();
      for (int again = 0; k < passes - 1 && again <= k; ++again) testing::run_pass(optimizer, 2, again);
    }
    CHECK(optimizer.step().applied());
  }
}

}  // namespace
}  // namespace tessera::engine
