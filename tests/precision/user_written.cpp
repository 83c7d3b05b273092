#include <doctest/doctest.h>

#include <vector>

#include <tessera/tessera.hpp>

#include "page.hpp"
#include "training.hpp"

namespace {

// [precision.md]
struct Bf16State : tessera::Bf16 {
  static constexpr const char* name = "Bf16State";
  using State = tessera::bfloat16;
};
// [end]

TEST_CASE("the page shows the precision that is compiled here") {
  CHECK(tessera::testing::page_shows("docs/precision.md", "tests/precision/user_written.cpp", "precision.md"));
}

template <class Stage>
tessera::testing::Outcome train(int passes) {
  tessera::testing::Outcome outcome;
  tessera::run_ranks(3, [&](tessera::Local& comm) {
    tessera::Sharded<tessera::Adam, Stage, Bf16State> optimizer(
        comm, tessera::testing::ragged_layout(), {}, std::vector<tessera::Adam>(2), {.micro_batches = passes});
    optimizer.initialize(tessera::testing::made_up_weight);
    const auto mine = tessera::testing::run_steps(optimizer, comm.rank(), 3, 2, passes);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST_CASE("a user's precision trains with the same bits at every stage") {
  for (const int passes : {1, 3}) {
    const auto expected = train<tessera::Stage0>(passes);
    CHECK(train<tessera::Stage1>(passes) == expected);
    CHECK(train<tessera::Stage2>(passes) == expected);
    CHECK(train<tessera::Stage3>(passes) == expected);
  }
}

}  // namespace
