// The spans that a training step records on a timeline.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "training.hpp"

#include <tessera/core/clock.hpp>

namespace tessera {
namespace {

constexpr int world = 3;
constexpr int units = 4;
constexpr int steps = 2;
constexpr int passes = 2;

Layout even_layers() {
  Layout layout;
  for (int u = 0; u < units; ++u) {
    layout.add_unit("layer " + std::to_string(u));
    layout.add_tensor("w", {64 * 12 * 5});
  }
  return layout;
}

// One unit per bucket; workers move the large ones.
template <class Stage>
testing::Outcome train(Timeline* timeline) {
  testing::Outcome outcome;
  const Layout layout = even_layers();
  const Options options{.micro_batches = passes, .bucket_bytes = 1, .timeline = timeline};
  run_ranks(world,
            [&](Local& comm) {
              Sharded<Adam, Stage> optimizer(comm, layout, {}, Adam{}, options);
              optimizer.initialize(testing::made_up_weight);
              const testing::Outcome mine = testing::run_steps(optimizer, comm.rank(), world, steps, passes);
              optimizer.finish();
              if (comm.rank() == 0) outcome = mine;
            },
            {.inline_bytes = 10'000});
  return outcome;
}

std::vector<Span> spans_of(const Track& track, const std::string& kind) {
  std::vector<Span> found;
  for (index_t i = 0; i < track.size(); ++i)
    if (track[i].kind == kind) found.push_back(track[i]);
  return found;
}

bool apart(const Span& a, const Span& b) { return a.end <= b.begin || b.end <= a.begin; }
bool holds(const Span& a, const Span& b) { return a.begin <= b.begin && b.end <= a.end; }

template <class Stage>
void check_shape() {
  Timeline timeline;
  train<Stage>(&timeline);
  const std::vector<const Track*> tracks = timeline.tracks();
  REQUIRE(tracks.size() == 3 * world);
  for (int r = 0; r < world; ++r) {
    const Track& compute = *tracks[3 * r];
    const Track& reductions = *tracks[3 * r + 1];
    const Track& gathers = *tracks[3 * r + 2];
    for (int t = 0; t < 3; ++t) CHECK(tracks[3 * r + t]->rank() == r);
    CHECK(compute.name() == "compute");
    CHECK(reductions.name() == "reductions");
    CHECK(gathers.name() == "gathers");

    CHECK(spans_of(compute, "step").size() == steps);
    CHECK(spans_of(compute, "norm").size() == steps);
    CHECK(spans_of(compute, "update").size() == steps * units);
    CHECK(spans_of(compute, "backward").size() == steps * passes * units);
    // plus the gathers by which the test reads the parameters, except the last, whose span has no end
    CHECK(spans_of(compute, "forward").size() == steps * passes * units + units - 1);
    CHECK(spans_of(reductions, "reduce_scatter").size() == steps * passes * units);
    CHECK(spans_of(reductions, "all_reduce").size() == steps);

    // A thread's spans nest, and a queue's spans follow each other.
    bool nest = true;
    for (index_t i = 0; i < compute.size(); ++i)
      for (index_t j = 0; j < i; ++j)
        nest &= apart(compute[i], compute[j]) || holds(compute[i], compute[j]) || holds(compute[j], compute[i]);
    CHECK(nest);
    for (const Track* queue : {&reductions, &gathers})
      for (index_t i = 1; i < queue->size(); ++i) CHECK((*queue)[i - 1].end <= (*queue)[i].begin);

    const Span first = compute[0];
    CHECK(std::string(first.kind) == (std::string(first.name) == "layer 0" ? "forward" : "wait"));
    // Nothing is applied before all ranks know the norm.
    const auto norms = spans_of(reductions, "all_reduce");
    const auto updates = spans_of(compute, "update");
    for (int s = 0; s < steps; ++s) CHECK(norms[s].end <= updates[s * units].begin);
  }
}

TEST_CASE("every rank has three tracks; a thread's spans nest, a queue's spans do not overlap, and none is missing") {
  check_shape<Stage0>();
  check_shape<Stage1>();
  check_shape<Stage2>();
  check_shape<Stage3>();
}

// The last rank to post a bucket starts its reduction, and still has backward to do.
template <class Stage>
void check_reduction_under_backward() {
  Timeline timeline;
  train<Stage>(&timeline);
  const std::vector<const Track*> tracks = timeline.tracks();
  for (int pass = 0; pass < steps * passes; ++pass) {
    core::Clock::time_point end{};
    for (int r = 0; r < world; ++r)
      for (const Span& span : spans_of(*tracks[3 * r], "backward"))
        if (span.pass == pass && end < span.end) end = span.end;
    const Span first = spans_of(*tracks[1], "reduce_scatter")[pass * units];
    CHECK(first.pass == pass);
    CHECK(first.index == units - 1);
    CHECK(first.begin < end);
  }
}

TEST_CASE("the reduction of the first bucket begins while backward continues") {
  check_reduction_under_backward<Stage0>();
  check_reduction_under_backward<Stage1>();
  check_reduction_under_backward<Stage2>();
  check_reduction_under_backward<Stage3>();
}

TEST_CASE("a timeline does not change the result") {
  Timeline timeline;
  CHECK(train<Stage2>(&timeline) == train<Stage2>(nullptr));
  CHECK(train<Stage3>(&timeline) == train<Stage3>(nullptr));
}

TEST_CASE("one rank may record a timeline while others do not, also through a decorator") {
  Timeline timeline;
  const Layout layout = even_layers();
  run_ranks(2, [&](Local& local) {
    Recording<Local> comm(local);
    Sharded<Adam, Stage1, Fp32, Recording<Local>> optimizer(comm, layout, {}, Adam{},
                                                            {.timeline = comm.rank() == 1 ? &timeline : nullptr});
    optimizer.initialize(testing::made_up_weight);
    testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
  });
  const std::vector<const Track*> tracks = timeline.tracks();
  REQUIRE(tracks.size() == 3);
  CHECK(tracks[0]->rank() == 1);
  CHECK(spans_of(*tracks[1], "reduce_scatter").size() == 1);
  CHECK(spans_of(*tracks[2], "all_gather").size() == 1);
}

TEST_CASE("a dropped step is visible on the timeline") {
  Timeline timeline;
  const Layout layout = even_layers();
  Self self;
  Sharded<Sgd, Stage0, Fp32, Self> optimizer(self, layout, {}, Sgd{.lr = 1}, {.timeline = &timeline});
  optimizer.initialize(testing::made_up_weight);
  { auto pass = (static_cast<void>(optimizer.gather(Unit{0})), optimizer.backward()); }
  testing::run_steps(optimizer, 0, 1, 1, 1);
  const Track& track = *timeline.tracks()[0];
  CHECK(spans_of(track, "dropped step").size() == 1);
  CHECK(spans_of(track, "step").size() == 1);
}

}  // namespace
}  // namespace tessera
