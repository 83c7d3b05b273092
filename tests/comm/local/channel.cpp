#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include <tessera/comm/local/channel.hpp>

namespace tessera::local {
namespace {

const core::List<char> nobody(3);

// Rank `rank` joins the live epoch's next operation.
void join(Channel& c, int rank) {
  Operation& op = c.ring.at(c.posted[rank]++, c.completed);
  op.call = {Collective::all_reduce, element_type<float>(), element_type<float>(), {{1, 0}}, 0, {"norm", 5, 6}};
  if (++op.joined == 3) ++c.full;
}

TEST_CASE("a ticket holds epoch and sequence number") {
  const Place place = Place::of(Place{7, 123456}.ticket());
  CHECK(place.epoch == 7);
  CHECK(place.sequence == 123456);
}

TEST_CASE("missing() lists the ranks that have not joined") {
  Channel c(3);
  join(c, 1);
  CHECK(c.missing(std::chrono::milliseconds(50)) ==
        "ranks 0 and 2 have not called all_reduce of 1 float (norm 5, pass 6) after 50 ms");
  join(c, 0);
  CHECK(c.missing(std::chrono::milliseconds(50)).rfind("rank 2 has not called", 0) == 0);
}

TEST_CASE("an operation can complete until a rank that has not joined it drops, leaves or returns") {
  std::string why;
  Channel c(3);
  join(c, 0);
  CHECK(c.why_never(0, {0, 0}, nobody, why) == -1);
  CHECK(c.why_never(0, {0, 0}, core::List<char>{0, 0, 1}, why) == 2);
  CHECK(why.find("rank 2 has left (its function has returned) and does not join all_reduce") == 0);
  c.left[1] = 1;
  CHECK(c.why_never(0, {0, 0}, nobody, why) == 1);
  CHECK(why.find("rank 1 has left and does not join all_reduce") == 0);
  c.left[1] = 0;
  CHECK(c.needs_a_call(0, {0, 0}, nobody));
  c.close(2, false, nobody);
  CHECK_FALSE(c.needs_a_call(0, {0, 0}, nobody));
  CHECK(c.why_never(0, {0, 0}, nobody, why) == 2);
  CHECK(why.find("rank 2 dropped pass 6") == 0);
}

TEST_CASE("a rank that detaches is reported as having left, with the first collective that is cancelled") {
  std::string why;
  Channel c(3);
  c.close(2, true, nobody);
  CHECK(c.why_never(0, {0, 0}, nobody, why) == 2);
  CHECK(why == "rank 2 has left");
  c.begin_epoch();
  for (int r = 0; r < 3; ++r) c.epoch[r] = 1;
  join(c, 0);
  c.close(1, true, nobody);
  CHECK(c.why_never(0, {1, 0}, nobody, why) == 1);
  CHECK(why == "rank 1 has left and does not join all_reduce of 1 float (norm 5, pass 6)");
}

TEST_CASE("an operation needs a call until all ranks have joined it") {
  Channel c(3);
  for (int r = 0; r < 3; ++r) join(c, r);
  join(c, 0);
  CHECK_FALSE(c.needs_a_call(0, {0, 0}, nobody));
  CHECK(c.needs_a_call(0, {0, 1}, nobody));
  CHECK(c.has(0, {0, 1}));
  CHECK_FALSE(c.has(1, {0, 1}));
  c.completed = 1;
  CHECK_FALSE(c.needs_a_call(0, {0, 0}, nobody));
  CHECK_FALSE(c.has(0, {0, 0}));
}

TEST_CASE("operations that all ranks joined before a drop complete, and a new epoch starts at sequence number 0") {
  Channel c(3);
  for (int r = 0; r < 3; ++r) join(c, r);
  join(c, 0);
  CHECK_FALSE(c.is_completed({0, 0}));
  c.completed = 1;
  c.close(1, false, nobody);
  c.begin_epoch();
  CHECK(c.is_completed({0, 0}));
  CHECK_FALSE(c.is_completed({0, 1}));
  CHECK_FALSE(c.is_completed({1, 0}));
  CHECK(c.live == 1);
  CHECK(c.full == 0);
}

TEST_CASE("an operation and a wait for it are spans in the timeline of every rank that has one") {
  Timeline timeline;
  Channel c(3);
  Track& work = timeline.open(1, "reductions");
  Track& waits = timeline.open(1, "compute");
  const auto run = [&] {
    for (int r = 0; r < 3; ++r) join(c, r);
    Operation& op = c.ring[c.completed];
    c.begin(op);
    {
      const Timed mine = c.timed_wait(1, {0, c.completed});
      const Timed of_another = c.timed_wait(2, {0, c.completed});
    }
    c.end(op);
  };
  run();
  CHECK(work.size() == 0);
  c.time_on(1, {&work, &waits});
  run();
  REQUIRE(work.size() == 1);
  CHECK(std::string(work[0].kind) == "all_reduce");
  CHECK(std::string(work[0].name) == "norm");
  CHECK(work[0].index == 5);
  CHECK(work[0].pass == 6);
  REQUIRE(waits.size() == 1);
  CHECK(std::string(waits[0].kind) == "wait");
  CHECK(std::string(waits[0].name) == "norm");
  CHECK(work[0].begin <= waits[0].begin);
  CHECK(waits[0].end <= work[0].end);
}

TEST_CASE("an operation that started before the first timeline is not a span") {
  Timeline timeline;
  Channel c(3);
  for (int r = 0; r < 3; ++r) join(c, r);
  Operation& op = c.ring[0];
  c.begin(op);
  Track& work = timeline.open(0, "reductions");
  c.time_on(0, {&work, &work});
  c.end(op);
  CHECK(work.size() == 0);
}

}  // namespace
}  // namespace tessera::local
