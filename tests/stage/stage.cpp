#include <doctest/doctest.h>

#include <tessera/stage/stage.hpp>

namespace tessera {
namespace {

struct Nameless : Stage<placement::replicated, placement::world, placement::world> {};
struct ThreeFlags {
  static constexpr const char* name = "ThreeFlags";
  [[maybe_unused]] static constexpr bool shards_state = true, shards_gradients = true, shards_parameters = true;
};

static_assert(StagePolicy<Stage0> && StagePolicy<Stage1> && StagePolicy<Stage2> && StagePolicy<Stage3>);
static_assert(StagePolicy<StageHybrid> && StagePolicy<StageHybridState>);
static_assert(!StagePolicy<Nameless>);
static_assert(!StagePolicy<ThreeFlags>);
static_assert(!StagePolicy<int>);

template <class S>
int sharded() {
  return S::parameters.sharded() + S::gradients.sharded() + S::state.sharded();
}

TEST_CASE("each stage shards one more kind of array than the stage before") {
  CHECK(sharded<Stage0>() == 0);
  CHECK(sharded<Stage1>() == 1);
  CHECK(sharded<Stage2>() == 2);
  CHECK(sharded<Stage3>() == 3);
}

template <class S>
void check_widths() {
  CHECK(S::parameters.extent <= S::gradients.extent);
  CHECK(S::gradients.extent <= S::state.extent);
  CHECK(S::shards_parameters == S::parameters.sharded());
  CHECK(S::shards_gradients == S::gradients.sharded());
  CHECK(S::shards_state == S::state.sharded());
}

TEST_CASE("state is sharded at least as widely as gradients, and gradients at least as widely as parameters") {
  check_widths<Stage0>();
  check_widths<Stage1>();
  check_widths<Stage2>();
  check_widths<Stage3>();
  check_widths<StageHybrid>();
  check_widths<StageHybridState>();
}

TEST_CASE("hybrid stages shard parameters and gradients over groups, and state over groups or the world") {
  CHECK(StageHybrid::parameters == placement::group);
  CHECK(StageHybrid::gradients == placement::group);
  CHECK(StageHybrid::state == placement::group);
  CHECK(StageHybridState::parameters == placement::group);
  CHECK(StageHybridState::state == placement::world);
  CHECK(StageHybrid::has_groups);
  CHECK(StageHybridState::has_groups);
  CHECK(!Stage3::has_groups);
}

}  // namespace
}  // namespace tessera
