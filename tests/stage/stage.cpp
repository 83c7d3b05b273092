#include <doctest/doctest.h>

#include <tessera/stage/stage.hpp>

namespace tessera {
namespace {

struct ParametersWithoutGradients {
  static constexpr const char* name = "wrong";
  static constexpr bool shards_state = true, shards_gradients = false, shards_parameters = true;
};
struct GradientsWithoutState {
  static constexpr const char* name = "wrong";
  static constexpr bool shards_state = false, shards_gradients = true, shards_parameters = false;
};
struct Nameless {
  static constexpr bool shards_state = true, shards_gradients = true, shards_parameters = true;
};

static_assert(StagePolicy<Stage0> && StagePolicy<Stage1> && StagePolicy<Stage2> && StagePolicy<Stage3>);
static_assert(!StagePolicy<ParametersWithoutGradients>);
static_assert(!StagePolicy<GradientsWithoutState>);
static_assert(!StagePolicy<Nameless>);
static_assert(!StagePolicy<int>);

TEST_CASE("each stage shards one thing more than the one before") {
  const auto sharded = []<class S>(S) { return S::shards_state + S::shards_gradients + S::shards_parameters; };
  CHECK(sharded(Stage0{}) == 0);
  CHECK(sharded(Stage1{}) == 1);
  CHECK(sharded(Stage2{}) == 2);
  CHECK(sharded(Stage3{}) == 3);
}

}  // namespace
}  // namespace tessera
