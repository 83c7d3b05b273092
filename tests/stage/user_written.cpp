#include <doctest/doctest.h>

#include <vector>

#include "page.hpp"
#include "training.hpp"

namespace {

// [stages.md]
struct GradientsToo : tessera::Stage<tessera::placement::replicated,  // parameters
                                     tessera::placement::world,       // gradients
                                     tessera::placement::world> {     // optimizer state
  static constexpr const char* name = "GradientsToo";
};
// [end]

TEST_CASE("docs/stages.md shows the stage that this test compiles") {
  CHECK(tessera::testing::page_shows("docs/stages.md", "tests/stage/user_written.cpp", "stages.md"));
}

template <class Stage>
tessera::testing::Outcome train() {
  tessera::testing::Outcome outcome;
  tessera::run_ranks(3, [&](tessera::Local& comm) {
    tessera::Sharded<tessera::Sgd, Stage> optimizer(comm, tessera::testing::ragged_layout(), {},
                                                    std::vector<tessera::Sgd>(2, tessera::Sgd{.lr = 0.1f}));
    optimizer.initialize(tessera::testing::made_up_weight);
    const auto mine = tessera::testing::run_steps(optimizer, comm.rank(), 3, 2, 1);
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST_CASE("a user's stage gives the same results as the library's stage with the same placements") {
  CHECK(train<GradientsToo>() == train<tessera::Stage2>());
}

}  // namespace
