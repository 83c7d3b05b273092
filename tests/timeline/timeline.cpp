#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/timeline/timeline.hpp>

namespace tessera {
namespace {

core::Clock::time_point at(index_t nanoseconds) { return core::Clock::time_point(std::chrono::nanoseconds(nanoseconds)); }
Span numbered(index_t i) { return {"part", "", i, -1, at(i), at(i + 1)}; }

TEST_CASE("a track keeps its newest spans, oldest first") {
  Track track(3, "compute", 4);
  CHECK(track.size() == 0);
  for (index_t i = 0; i < 3; ++i) track.add(numbered(i));
  CHECK(track.size() == 3);
  CHECK(track.lost() == 0);
  CHECK(track[0].index == 0);
  CHECK(track[2].index == 2);
  for (index_t i = 3; i < 11; ++i) track.add(numbered(i));
  CHECK(track.size() == 4);
  CHECK(track.lost() == 7);
  for (index_t i = 0; i < 4; ++i) CHECK(track[i].index == 7 + i);
}

TEST_CASE("a timed scope is a span from its begin to its end, also if an exception leaves the scope") {
  Track track(0, "compute", 4);
  core::Clock::time_point inside;
  const core::Clock::time_point before = core::Clock::now();
  try {
    const Timed timed(&track, {.kind = "load", .name = "batch", .index = 5, .pass = 6});
    inside = core::Clock::now();
    throw 1;
  } catch (int) {
  }
  const core::Clock::time_point after = core::Clock::now();
  REQUIRE(track.size() == 1);
  const Span& span = track[0];
  CHECK(std::string(span.kind) == "load");
  CHECK(std::string(span.name) == "batch");
  CHECK(span.index == 5);
  CHECK(span.pass == 6);
  CHECK(before <= span.begin);
  CHECK(span.begin <= inside);
  CHECK(inside <= span.end);
  CHECK(span.end <= after);
}

TEST_CASE("without a track a timed scope does nothing") { const Timed timed(nullptr, {.kind = "load"}); }

TEST_CASE("tracks are ordered by rank, then in the order in which they were opened, whichever rank was first") {
  Timeline timeline(8);
  Track& late = timeline.open(1, "compute");
  timeline.open(0, "compute");
  timeline.open(1, "gathers");
  timeline.open(0, "reductions");
  const std::vector<const Track*> tracks = timeline.tracks();
  std::string all;
  for (const Track* track : tracks) all += std::to_string(track->rank()) + ' ' + track->name() + ", ";
  CHECK(all == "0 compute, 0 reductions, 1 compute, 1 gathers, ");
  CHECK(tracks[2] == &late);
}

TEST_CASE("tracks and texts do not move in memory while ranks open more") {
  Timeline timeline(1);
  std::vector<std::thread> ranks;
  for (int r = 0; r < 4; ++r)
    ranks.push_back(std::thread([&timeline, r] {
      Track& track = timeline.open(r, "compute");
      const char* const name = timeline.keep("unit of rank " + std::to_string(r));
      for (int i = 0; i < 100; ++i) timeline.keep("another");
      track.add({.kind = "forward", .name = name});
    }));
  for (std::thread& rank : ranks) rank.join();
  const std::vector<const Track*> tracks = timeline.tracks();
  REQUIRE(tracks.size() == 4);
  for (int r = 0; r < 4; ++r) CHECK(std::string((*tracks[r])[0].name) == "unit of rank " + std::to_string(r));
}

std::string told;  // the calls of the profiler's functions

TEST_CASE("a profiler is notified when nested spans begin and end") {
  told.clear();
  Timeline timeline(8, {[](const Span& span) { told += message({"<", span.kind}); }, [] { told += ">"; }});
  Track& track = timeline.open(0, "compute");
  {
    const Timed step(&track, {.kind = "step"});
    const Timed wait(&track, {.kind = "wait"});
    CHECK(told == "<step<wait");
  }
  CHECK(told == "<step<wait>>");
  track.add({.kind = "all_gather"});  // a span of another thread, of which the profiler is not notified
  CHECK(told == "<step<wait>>");
  CHECK(track.size() == 3);
}

TEST_CASE("a timeline that keeps no spans is refused") {
  CHECK_THROWS_WITH_AS(Timeline(0), doctest::Contains("at least 1 span, not 0"), OptionError);
}

}  // namespace
}  // namespace tessera
