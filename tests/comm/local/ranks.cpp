#include <doctest/doctest.h>

#include <string>

#include <tessera/comm/local/ranks.hpp>

namespace tessera::local {
namespace {

Call call(const char* what) {
  return {Collective::all_reduce, element_type<float>(), element_type<float>(), {{1, 0}}, 0, {what, 5, 6}};
}

// Rank `rank` joins the channel's next operation.
Place join(RankStates& states, Channel& c, int rank, const char* what) {
  const Place place{c.live, c.posted[rank]++};
  Operation& op = c.ring.at(place.sequence, c.completed);
  op.call = call(what);
  states.calls(rank, op.call);
  if (++op.joined == static_cast<int>(c.posted.size())) ++c.full;
  return place;
}

TEST_CASE("ranks are in a deadlock if each of them waits for a collective that some rank has not called") {
  RankStates states(3);
  Channel first(3), second(3);
  const RankStates::Wait zero(states, 0, first, join(states, first, 0, "a"));
  const RankStates::Wait one(states, 1, second, join(states, second, 1, "b"));
  CHECK_FALSE(states.stuck());  // rank 2 may still call
  {
    const RankStates::Wait two(states, 2, second, join(states, second, 2, "b"));
    CHECK(states.stuck());
  }
  CHECK_FALSE(states.stuck());
}

TEST_CASE("there is no deadlock while a rank waits for a collective that all have joined, or that cannot complete") {
  for (const bool joined : {false, true}) {
    RankStates states(2);
    Channel first(2), second(2);
    const RankStates::Wait zero(states, 0, first, join(states, first, 0, "a"));
    const Place place = join(states, second, 1, "b");
    if (joined)
      join(states, second, 0, "b");
    else
      second.left[0] = 1;
    const RankStates::Wait one(states, 1, second, place);
    CHECK_FALSE(states.stuck());
  }
}

TEST_CASE("a rank that has returned makes no more calls, and ranks that have all returned are not in a deadlock") {
  RankStates states(3);
  Channel first(3), second(3);
  join(states, first, 2, "a");
  join(states, second, 2, "b");
  {
    const RankStates::Wait zero(states, 0, first, join(states, first, 0, "a"));
    const RankStates::Wait one(states, 1, second, join(states, second, 1, "b"));
    CHECK_FALSE(states.stuck());
    states.returns(2);
    CHECK(states.stuck());
  }
  states.returns(0);
  states.returns(1);
  CHECK_FALSE(states.stuck());
}

TEST_CASE("the text lists ranks with equal states together: what they wait for, their last call, or their return") {
  RankStates states(6);
  Channel c(6);
  CHECK(states.text() == "ranks 0, 1, 2, 3, 4 and 5 have called nothing");
  const Place place = join(states, c, 0, "a");
  const RankStates::Wait zero(states, 0, c, place);
  const RankStates::Wait two(states, 2, c, join(states, c, 2, "a"));
  states.calls(1, call("b"));
  states.calls(3, call("b"));
  states.returns(5);
  CHECK(states.text() ==
        "ranks 0 and 2 wait in queue 0 for all_reduce of 1 float (a 5, pass 6); ranks 1 and 3 last called all_reduce "
        "of 1 float "
        "(b 5, pass 6); rank 4 has called nothing; rank 5 has returned");
  states.returns(4);
  CHECK(states.text().find("; ranks 4 and 5 have returned") != std::string::npos);
}

}  // namespace
}  // namespace tessera::local
