#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include <tessera/comm/self.hpp>
#include <tessera/engine/step/rank_spans.hpp>

namespace tessera::engine {
namespace {

Layout three_units() {
  Layout layout;
  for (const char* name : {"embedding", "body", "head"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});
  }
  return layout;
}

// The spans of a rank, on a timeline of its own.
struct Rank {
  explicit Rank(Layout of) : layout(std::move(of)), spans(&timeline, 5, layout, queue, queue) {}

  // For example "forward body 7": kind, name, and index or pass, in the order in which the spans ended.
  std::string story() const {
    const Track& track = *timeline.tracks()[0];
    std::string all;
    for (index_t i = 0; i < track.size(); ++i) {
      const Span& span = track[i];
      all += message({all.empty() ? "" : ", ", span.kind, *span.name ? " " : "", span.name});
      if (span.index >= 0 || span.pass >= 0) all += message({" ", span.index >= 0 ? span.index : span.pass});
    }
    return all;
  }

  Layout layout;
  Self self{};
  Self::Queue queue = self.queue({});
  Timeline timeline;
  RankSpans spans;
};

std::string told;

TEST_CASE("a profiler is notified during the step: units and phases nest, and each ends before the next begins") {
  told.clear();
  Timeline timeline(16, {[](const Span& span) {
                           told += message({"<", span.kind, " ", span.name});
                         },
                         [] { told += ">"; }});
  const Layout layout = three_units();
  Self self;
  Self::Queue queue = self.queue({});
  RankSpans spans(&timeline, 0, layout, queue, queue);
  spans.compute(Unit{0}, 0);
  spans.begin_backward(0);
  spans.compute(Unit{0}, 0);
  spans.end_backward();
  spans.begin("norm");
  spans.end_step(0);
  CHECK(told == "<step <forward embedding><backward embedding><norm >>");
}

TEST_CASE("a unit's forward and backward last from its gather to the next unit's, within the span of a step") {
  Rank rank(three_units());
  for (const int u : {0, 1}) rank.spans.compute(Unit{u}, 6);
  rank.spans.begin_backward(6);
  for (const int u : {1, 1, 0}) rank.spans.compute(Unit{u}, 6);  // gather, gradients; gather
  rank.spans.end_backward();
  rank.spans.begin("norm");
  rank.spans.begin("update", "bucket", 0);
  rank.spans.end_step(6);
  rank.spans.compute(Unit{0}, 7);
  rank.spans.compute(Unit{1}, 7);
  CHECK(rank.story() ==
        "forward embedding 6, forward body 6, backward body 6, backward embedding 6, norm, update bucket 0, step 6, "
        "forward embedding 7");
  const Track& track = *rank.timeline.tracks()[0];
  CHECK(track.rank() == 5);
  const Span& step = track[6];
  CHECK(step.begin == track[0].begin);
  for (index_t i = 0; i < 6; ++i) {
    CHECK(track[i].begin <= track[i].end);
    CHECK(track[i].end <= track[i + 1].end);
    if (i > 0) CHECK(track[i - 1].end <= track[i].begin);
  }
  CHECK(step.end <= track[7].begin);
}

TEST_CASE("gathering a tied unit does not end the span of the unit that is computed") {
  Layout layout = three_units();
  layout.tie(Unit{2}, Unit{0});
  Rank rank(layout);
  for (const int u : {2, 0, 2, 1, 0}) rank.spans.compute(Unit{u}, 0);
  rank.spans.begin_backward(0);
  CHECK(rank.story() == "forward head 0, forward body 0, forward embedding 0");
}

TEST_CASE("a flat layout's backward is one span, from the begin to the end of the pass") {
  Rank rank(Layout::flat(100));
  rank.spans.compute(Unit{0}, 0);
  rank.spans.begin_backward(0);
  rank.spans.end_backward();
  CHECK(rank.story() == "forward flat 0, backward flat 0");
}

TEST_CASE("a dropped step is named so, and the next pass is a forward again") {
  Rank rank(three_units());
  rank.spans.drop(0);  // nothing had begun
  CHECK(rank.story().empty());
  rank.spans.begin_backward(0);
  rank.spans.compute(Unit{2}, 0);
  rank.spans.drop(0);
  rank.spans.compute(Unit{0}, 0);
  rank.spans.begin("norm");
  rank.spans.end_step(0);
  CHECK(rank.story() == "backward head 0, dropped step 0, forward embedding 0, norm, step 0");
}

TEST_CASE("a unit that does not exist is ignored here; other checks refuse it") {
  Rank rank(three_units());
  for (const int u : {-1, 3, 1000}) rank.spans.compute(Unit{u}, 0);
  rank.spans.end_step(0);
  CHECK(rank.story().empty());
}

TEST_CASE("without a timeline nothing is recorded") {
  Self::Queue queue = Self().queue({});
  const Layout layout = three_units();
  RankSpans spans(nullptr, 0, layout, queue, queue);
  spans.compute(Unit{0}, 0);
  spans.begin_backward(0);
  spans.compute(Unit{0}, 0);
  spans.end_backward();
  spans.begin("norm");
  spans.end_step(0);
  spans.drop(1);
}

TEST_CASE("each queue that supports timelines gets a track, other queues none") {
  static_assert(!TimedQueue<Self::Queue>);
  CHECK(Rank(three_units()).timeline.tracks().size() == 1);
  struct Timable : Self::Queue {
    void time_on(const QueueTracks& on) { tracks = on; }
    QueueTracks tracks;
  } reductions, gathers;
  Timeline timeline;
  const Layout layout = three_units();
  RankSpans spans(&timeline, 2, layout, reductions, gathers);
  const std::vector<const Track*> tracks = timeline.tracks();
  REQUIRE(tracks.size() == 3);
  CHECK(tracks[0]->name() == "compute");
  CHECK(reductions.tracks.work == tracks[1]);
  CHECK(tracks[1]->name() == "reductions");
  CHECK(gathers.tracks.work == tracks[2]);
  CHECK(tracks[2]->name() == "gathers");
  CHECK(reductions.tracks.waits == tracks[0]);
  CHECK(gathers.tracks.waits == tracks[0]);
}

}  // namespace
}  // namespace tessera::engine
