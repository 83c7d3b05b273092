#include <doctest/doctest.h>

#include <utility>

#include "training.hpp"

namespace tessera {
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
  Fixture() : layout(one_unit()), optimizer(self, layout, {}, Sgd{}) {}
};

TEST_CASE("a pass may be moved, and ends once") {
  Fixture f;
  auto first = f.optimizer.backward();
  auto second = std::move(first);
  second.gradients(Unit{0});
  second.ready(Unit{0});
  CHECK(f.optimizer.step().applied());
}

TEST_CASE("a pass that is destroyed unfinished is dropped, and a new one begins clean") {
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

TEST_CASE("an old pass neither marks nor drops the open one") {
  Fixture f;
  auto old = f.optimizer.backward();
  old.gradients(Unit{0});
  old.ready(Unit{0});
  CHECK(f.optimizer.step().applied());
  {
    auto pass = f.optimizer.backward();
    CHECK_THROWS_WITH_AS(old.gradients(Unit{0}), doctest::Contains("outside a pass"), UsageError);
    { const auto gone = std::move(old); }
    pass.gradients(Unit{0});
    pass.ready(Unit{0});
  }
  CHECK(f.optimizer.step().step() == 2);
}

TEST_CASE("gradients may be asked for again until ready, and are zeroed only the first time") {
  Fixture f;
  auto pass = f.optimizer.backward();
  pass.gradients(Unit{0})[Tensor{0}][2] += 3;
  pass.gradients(Unit{0})[Tensor{0}][2] += 4;
  pass.ready(Unit{0});
  CHECK(f.optimizer.step().gradient_norm() == 7);
}

}  // namespace
}  // namespace tessera
