#include <doctest/doctest.h>

#include <string>

#include <tessera/comm/self.hpp>
#include <tessera/engine/step/step_progress.hpp>

namespace tessera::engine {
namespace {

Layout two_units() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {64});
  layout.add_unit("b");
  layout.add_tensor("w", {64});
  return layout;
}

void complete_pass(StepProgress& progress) {
  progress.begin_pass();
  for (int u : {1, 0}) {
    progress.set_zeroed(Unit{u});
    progress.mark(Unit{u});
    while (progress.depart() >= 0) {
    }
  }
  CHECK(progress.close_pass_if_complete());
}

TEST_CASE("a step has as many passes as micro-batches") {
  const Sharding sharding(two_units(), 1, 1);
  StepProgress progress(sharding, 0, 2);
  CHECK_THROWS_WITH_AS(progress.require_complete(), doctest::Contains("after 0 of 2"), UsageError);
  complete_pass(progress);
  CHECK_THROWS_WITH_AS(progress.require_complete(), doctest::Contains("after 1 of 2"), UsageError);
  CHECK_THROWS_WITH_AS(progress.require_between_steps("load"), doctest::Contains("load() in the middle of a step"),
                       UsageError);
  complete_pass(progress);
  CHECK_NOTHROW(progress.require_complete());
  CHECK_THROWS_AS(progress.require_new_pass(), UsageError);
  progress.end_step();
  CHECK(progress.steps() == 1);
  CHECK_NOTHROW(progress.require_between_steps("load"));
}

TEST_CASE("PassOptions are in range, equal in all passes of a step, and skip clearing only in a single pass") {
  const Sharding sharding(two_units(), 1, 1);
  StepProgress two(sharding, 0, 2);
  CHECK_THROWS_WITH_AS(two.require_new_pass({.sum_of = 0}), doctest::Contains("sum_of must be at least 1, is 0"),
                       OptionError);
  CHECK_THROWS_WITH_AS(two.require_new_pass({.zero = false}), doctest::Contains("for one of 2 passes of a step"),
                       UsageError);
  two.begin_pass({.sum_of = 3});
  two.drop();
  complete_pass(two);
  CHECK_THROWS_WITH_AS(two.require_new_pass({.sum_of = 3}), doctest::Contains("sum_of is 3, in the step's first pass it "
                                                                             "was 1"),
                       UsageError);
  complete_pass(two);
  two.end_step();
  CHECK_NOTHROW(two.require_new_pass({.sum_of = 3}));
  StepProgress one(sharding, 0, 1);
  CHECK_NOTHROW(one.require_new_pass({.zero = false, .sum_of = 3}));
  one.begin_pass({.zero = false, .sum_of = 3});
  CHECK(one.micro_batches() == 3);
  CHECK_FALSE(one.clears(Unit{0}));
}

TEST_CASE("a rank without a micro-batch in the last pass is asked for no gradients, and has none") {
  const Sharding sharding(two_units(), 3, 1);
  StepProgress progress(sharding, 1, 2);
  progress.begin_step(4);  // of ranks 0, 1, 2 and then 0
  CHECK(progress.passes_in_step() == 2);
  CHECK(progress.has_micro_batch());
  complete_pass(progress);
  CHECK_FALSE(progress.has_micro_batch());
  progress.begin_pass();
  CHECK_THROWS_WITH_AS(progress.require_unready(Unit{0}), doctest::Contains("this rank has no micro-batch in this pass"),
                       UsageError);
  CHECK_NOTHROW(progress.mark(Unit{0}));
  CHECK_NOTHROW(progress.mark(Unit{1}));
  while (progress.depart() >= 0) {
  }
  CHECK(progress.close_pass_if_complete());
  CHECK_NOTHROW(progress.require_complete());
  CHECK_FALSE(progress.absent(Unit{0}));  // it had one in the first pass
  progress.end_step();
  progress.begin_step(1);
  complete_pass(progress);
  CHECK(progress.absent(Unit{0}));
}

TEST_CASE("begin_step() sets the number of micro-batches of one step") {
  const Sharding sharding(two_units(), 3, 1);
  StepProgress progress(sharding, 0, 2);
  progress.begin_step(2);
  CHECK(progress.passes_in_step() == 1);
  complete_pass(progress);
  progress.end_step();
  CHECK(progress.leaves() == 6);
  CHECK(progress.passes_in_step() == 2);
}

TEST_CASE("tags are equal for the same pass and differ between passes of one step and the next") {
  const Sharding sharding(two_units(), 1, 1);
  StepProgress progress(sharding, 0, 2);
  const index_t first = progress.tag();
  complete_pass(progress);
  const index_t second = progress.tag();
  complete_pass(progress);
  progress.end_step();
  CHECK(second == first + 1);
  CHECK(progress.tag() == first + 2);
}

TEST_CASE("a dropped pass drops the step's earlier passes and names the missing unit") {
  const Sharding sharding(two_units(), 1, 1);
  StepProgress progress(sharding, 0, 2);
  complete_pass(progress);
  const index_t pass = progress.begin_pass();
  CHECK(progress.is_open(pass));
  progress.set_zeroed(Unit{1});
  progress.mark(Unit{1});
  progress.drop();
  CHECK_FALSE(progress.is_open(pass));
  CHECK(progress.passes() == 0);
  CHECK_THROWS_WITH_AS(progress.require_complete(),
                       doctest::Contains("dropped and the step with it: unit 'a' was never ready"), UsageError);
}

TEST_CASE("an old pass is distinguished from the open one") {
  const Sharding sharding(two_units(), 1, 1);
  StepProgress progress(sharding, 0, 1);
  const index_t old = progress.begin_pass();
  progress.drop();
  CHECK(progress.is_open(progress.begin_pass()));
  CHECK_FALSE(progress.is_open(old));
}

TEST_CASE("the timeline records every pass and step with the numbers of the collectives' tags") {
  const Sharding sharding(two_units(), 1, 1);
  Timeline timeline;
  Self::Queue queue = Self().queue({});
  StepProgress progress(sharding, 0, 2, {&timeline, 0, sharding.layout(), queue, queue});
  for (int k = 0; k < 2; ++k) {
    progress.at(Unit{0});
    progress.begin_pass();
    progress.at(Unit{1});
    for (const int u : {1, 0}) {
      progress.set_zeroed(Unit{u});
      progress.mark(Unit{u});
      progress.depart();
    }
    CHECK(progress.close_pass_if_complete());
  }
  progress.at("update", "bucket", 0);
  progress.end_step();
  progress.at(Unit{1});
  progress.drop();
  const Track& track = *timeline.tracks()[0];
  std::string story;
  for (index_t i = 0; i < track.size(); ++i)
    story += message({track[i].kind, " ", track[i].name, " ", track[i].index, " ", track[i].pass, ", "});
  CHECK(story ==
        "forward a -1 0, backward b -1 0, forward a -1 1, backward b -1 1, update bucket 0 -1, step  0 -1, "
        "forward b -1 2, dropped step  1 -1, ");
}

}  // namespace
}  // namespace tessera::engine
