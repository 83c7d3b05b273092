#include <doctest/doctest.h>

#include <tessera/engine/step/gather_progress.hpp>

namespace tessera::engine {
namespace {

using doctest::Contains;

Layout tied_layout() {
  Layout layout;
  for (const char* name : {"embedding", "body", "head"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});
  }
  layout.add_unit("frozen");
  layout.add_tensor("w", {64}, {.frozen = true});
  layout.tie(Unit{2}, Unit{0});
  return layout;
}

TEST_CASE("before there are weights, a call that needs them is refused with advice") {
  const Layout layout = tied_layout();
  GatherProgress weights(layout, false);
  CHECK_THROWS_WITH_AS(weights.require_weights("gather"), Contains("gather() before the first weights: call initialize"),
                       UsageError);
  weights.bring_in();
  CHECK_THROWS_AS(weights.require_weights("step"), UsageError);
  weights.came_in();
  CHECK_NOTHROW(weights.require_weights("step"));
  weights.bring_in();  // weights on which ranks have not agreed
  CHECK_THROWS_AS(weights.require_weights("step"), UsageError);
  CHECK_NOTHROW(GatherProgress(layout, true).require_weights("step"));
  const Layout empty;
  CHECK_NOTHROW(GatherProgress(empty, false).require_weights("step"));
}

TEST_CASE("a gradient needs weights that were loaded, gathered or waited for since they last changed") {
  const Layout layout = tied_layout();
  GatherProgress weights(layout, true);
  CHECK_NOTHROW(weights.require_gathered(Unit{1}));
  weights.change();
  CHECK_THROWS_WITH_AS(weights.require_gathered(Unit{1}),
                       Contains("gradients('body'): the unit was not gathered since its weights last changed: call "
                                "gather('body')"),
                       UsageError);
  weights.gathered(Unit{1});
  CHECK_NOTHROW(weights.require_gathered(Unit{1}));
  weights.change();
  CHECK_THROWS_AS(weights.require_gathered(Unit{1}), UsageError);
  weights.finished();
  CHECK_NOTHROW(weights.require_gathered(Unit{1}));
  weights.change();
  weights.came_in();
  CHECK_NOTHROW(weights.require_gathered(Unit{1}));
  weights.change();
  CHECK_NOTHROW(weights.require_gathered(Unit{3}));  // nothing in it changes
}

TEST_CASE("the owner of a tied unit must have been gathered too") {
  const Layout layout = tied_layout();
  GatherProgress weights(layout, true);
  weights.change();
  weights.gathered(Unit{2});
  CHECK_THROWS_WITH_AS(weights.require_gathered(Unit{2}), Contains("gradients('head'): its tied unit 'embedding'"),
                       UsageError);
  weights.gathered(Unit{0});
  CHECK_NOTHROW(weights.require_gathered(Unit{2}));
}

TEST_CASE("in a flat layout each element counts, and the message names the first missing one") {
  const Layout layout = Layout::flat(100);
  GatherProgress weights(layout, true);
  weights.change();
  weights.gathered(Range{40, 100});
  weights.gathered(Range{0, 30});
  CHECK_NOTHROW(weights.require_gathered(Range{5, 30}));
  CHECK_THROWS_WITH_AS(weights.require_gathered(Range{5, 50}), Contains("ready(5, 50): element 30"), UsageError);
  weights.gathered(Range{20, 45});
  CHECK_NOTHROW(weights.require_gathered(Range{0, 100}));
  weights.change();
  weights.gathered(Unit{0});
  CHECK_NOTHROW(weights.require_gathered(Range{0, 100}));
}

TEST_CASE("the caller may write weights into its own buffer if no gather is in flight") {
  const Layout layout = tied_layout();
  CHECK_THROWS_WITH_AS(GatherProgress(layout, false).require_own_weights(), Contains("{.parameters = p}"), UsageError);
  GatherProgress weights(layout, true);
  CHECK_NOTHROW(weights.require_own_weights());
  weights.gathered(Unit{0});
  CHECK_THROWS_WITH_AS(weights.require_own_weights(), Contains("call finish(), then write"), UsageError);
  weights.finished();
  CHECK_NOTHROW(weights.require_own_weights());
  weights.change();
  CHECK_THROWS_AS(weights.require_own_weights(), UsageError);
}

}  // namespace
}  // namespace tessera::engine
