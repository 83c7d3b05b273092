#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/comm/decorators/recording.hpp>
#include <tessera/engine/memory/sharded_parameters.hpp>

#include "drops_first.hpp"

namespace tessera::engine {
namespace {

Layout units(int count) {
  Layout layout;
  for (int u = 0; u < count; ++u) {
    layout.add_unit("u" + std::to_string(u));
    layout.add_tensor("w", {100});
    layout.add_tensor("frozen", {u % 2 * 5}, {.frozen = true});
  }
  return layout;
}

using Comm = Recording<Local>;

// Nobody may ask for what a gather posted ahead brings: the last member ends it before the memory that peers read dies.
template <Placement where, Placement of_state>
struct RankOf {
  Sharding sharding;
  Host host;
  Comm comm;
  typename Comm::Queue queue;
  ShardedParameters<Comm, float, where, of_state> parameters;
  testing::DropsFirst<Comm::Queue> drops_first{queue};

  RankOf(const Layout& layout, Local& local, Options options)
      : sharding(layout, local.size(), 1, where.extent == Extent::group ? options.group_size : 1),
        comm(local),
        queue(comm.queue(std::chrono::seconds(10))),
        parameters(sharding, local.rank(), host, queue,
                   layout::make_plan(sharding, options,
                             {.parameters = where, .gradients = of_state, .state = of_state}),
                   options, {}) {
    const auto& array = parameters.array();
    for (const float sign : {1.0f, -1.0f})  // of trainable and of frozen parameters
      for (int b = 0; b < sharding.buckets(); ++b) {
        const int p = sharding.piece(b, sign < 0);
        for (index_t i = array.held(p).begin; i < array.held(p).end; ++i) *array.at(p, i) = sign * static_cast<float>(i);
      }
  }
};

using Rank = RankOf<placement::world, placement::world>;

TEST_CASE("a gathered unit is whole on every rank, frozen tensors too, in both directions and with any prefetch") {
  const Layout layout = units(5);
  for (int world = 1; world <= 3; ++world)
    for (int prefetch : {0, 1, 7})
      run_ranks(world, [&](Local& local) {
        Rank rank(layout, local, {.prefetch = prefetch});
        const auto look = [&](Unit u) {
          const auto weights = rank.parameters.gather(u);
          const Tensor w = *layout.tensors(u).begin();
          for (index_t i = 0; i < 100; ++i) REQUIRE(weights[w][i] == static_cast<float>(layout.place(w).begin + i));
          const Tensor frozen{w.index + 1};
          for (index_t i = 0; i < layout.elements(frozen); ++i)
            REQUIRE(weights[frozen][i] == -static_cast<float>(layout.place(frozen).begin + i));
        };
        for (const Unit u : layout.forward()) look(u);
        rank.parameters.begin_backward();
        for (const Unit u : layout.backward()) look(u);
        rank.parameters.begin_forward();
        look(Unit{0});
      });
}

// The buckets whose gathers were posted, in order.
std::vector<index_t> asked(const Rank& rank) {
  std::vector<index_t> buckets;
  for (const auto& record : rank.comm.log())
    if (std::string(record.tag.what) == "parameters of bucket") buckets.push_back(record.tag.index);
  return buckets;
}

TEST_CASE("units are prefetched, and those in memory at the turn stay until the weights change") {
  const Layout layout = units(4);
  run_ranks(2, [&](Local& local) {
    Rank rank(layout, local, {.prefetch = 1});
    static_cast<void>(rank.parameters.gather(Unit{0}));
    CHECK(asked(rank) == std::vector<index_t>{0, 1});
    for (int u = 1; u < 4; ++u) static_cast<void>(rank.parameters.gather(Unit{u}));
    CHECK(asked(rank) == std::vector<index_t>{0, 1, 2, 3});
    rank.parameters.begin_backward();
    for (int u = 3; u >= 0; --u) static_cast<void>(rank.parameters.gather(Unit{u}));
    CHECK(asked(rank) == std::vector<index_t>{0, 1, 2, 3, 1, 0});
    rank.parameters.begin_forward();
    static_cast<void>(rank.parameters.gather(Unit{0}));
    rank.parameters.finish();
    static_cast<void>(rank.parameters.gather(Unit{1}));
    CHECK(asked(rank) == std::vector<index_t>{0, 1, 2, 3, 1, 0, 2});
    rank.parameters.before_update();
    static_cast<void>(rank.parameters.gather(Unit{1}));
    CHECK(asked(rank) == std::vector<index_t>{0, 1, 2, 3, 1, 0, 2, 1, 2});
  });
}

TEST_CASE("Weights in use keep their slot, and one gather too many is refused by name") {
  const Layout layout = units(4);
  run_ranks(1, [&](Local& local) {
    Rank rank(layout, local, {.prefetch = 1});
    const auto first = rank.parameters.gather(Unit{0});
    {
      const auto second = rank.parameters.gather(Unit{1});
      CHECK_THROWS_WITH_AS(static_cast<void>(rank.parameters.gather(Unit{2})),
                           doctest::Contains("gather('u2'): the slot that it needs still holds 'u0'"), UsageError);
    }
    CHECK(first.trainable()[7] == 7);
    CHECK(asked(rank) == std::vector<index_t>{0, 1});
  });
}

TEST_CASE("a rank that holds Weights longer posts the same gathers later") {
  const Layout layout = units(6);
  std::vector<index_t> of_rank[2];
  run_ranks(2, [&](Local& local) {
    Rank rank(layout, local, {.prefetch = 2});
    std::deque<Weights<float>> kept;
    const auto gather = [&](Unit u) {
      // as many as there are slots
      if (local.rank() == 0 && kept.size() == 3) kept.pop_front();
      kept.push_back(rank.parameters.gather(u));
      for (const auto& weights : kept) REQUIRE(!weights.trainable().empty());
      REQUIRE(kept.back().trainable()[7] == static_cast<float>(layout.trainable(u).begin + 7));
      if (local.rank() == 1) kept.clear();
    };
    for (int step = 0; step < 2; ++step) {
      for (const Unit u : layout.forward()) gather(u);
      rank.parameters.begin_backward();
      for (const Unit u : layout.backward()) gather(u);
      rank.parameters.begin_forward();
      rank.parameters.before_update();
    }
    of_rank[local.rank()] = asked(rank);
  });
  CHECK(of_rank[0] == std::vector<index_t>{0, 1, 2, 3, 4, 5, 2, 1, 0, 0, 1, 2, 3, 4, 5, 2, 1, 0});
  CHECK(of_rank[0] == of_rank[1]);
}

TEST_CASE(
    "before an update, gathers that wait for Weights to be released are refused, and are posted after the release") {
  const Layout layout = units(4);
  run_ranks(2, [&](Local& local) {
    Rank rank(layout, local, {.prefetch = 1});
    {
      const auto first = rank.parameters.gather(Unit{0});
      {
        const auto second = rank.parameters.gather(Unit{1});
        CHECK(asked(rank) == std::vector<index_t>{0, 1});
      }
      if (local.rank() == 0) {
        const char* const why = "the gather of 'u2', which is prefetched, needs the slot of 'u0'";
        CHECK_THROWS_WITH_AS(rank.parameters.post_all(), doctest::Contains(why), UsageError);
        CHECK_THROWS_WITH_AS(rank.parameters.finish(), doctest::Contains(why), UsageError);
        CHECK_THROWS_WITH_AS(rank.parameters.before_update(), doctest::Contains(why), UsageError);
        rank.parameters.post_unblocked();
        CHECK(asked(rank) == std::vector<index_t>{0, 1});
        CHECK(first.trainable()[7] == 7);
      }
    }
    if (local.rank() == 0) rank.parameters.post_unblocked();
    CHECK(asked(rank).size() == (local.rank() == 0 ? 3 : 2));
    rank.parameters.before_update();
    CHECK(asked(rank) == std::vector<index_t>{0, 1, 2});
  });
}

TEST_CASE("after a drop everything is gathered again, also what was prefetched") {
  const Layout layout = units(4);
  run_ranks(2, [&](Local& local) {
    Rank rank(layout, local, {.prefetch = 1});
    static_cast<void>(rank.parameters.gather(Unit{0}));
    rank.parameters.drop();
    const auto weights = rank.parameters.gather(Unit{1});
    CHECK(weights.trainable()[7] == static_cast<float>(layout.trainable(Unit{1}).begin + 7));
    static_cast<void>(rank.parameters.gather(Unit{0}));
    CHECK(asked(rank) == std::vector<index_t>{0, 1, 1, 2, 0});
  });
}

TEST_CASE("Weights that are in use during a drop keep their slot until they are released") {
  const Layout layout = units(3);
  run_ranks(1, [&](Local& local) {
    Rank rank(layout, local, {.prefetch = 0});
    {
      const auto first = rank.parameters.gather(Unit{0});
      rank.parameters.drop();
      CHECK_THROWS_AS(static_cast<void>(rank.parameters.gather(Unit{1})), UsageError);
      CHECK(first.trainable()[7] == 7);
    }
    CHECK_NOTHROW(static_cast<void>(rank.parameters.gather(Unit{1})));
  });
}

TEST_CASE("an update waits until peers have read this rank's shard, and the next gather gets the new weights") {
  const Layout layout = units(2);
  std::atomic<bool> peer_came = false;
  run_ranks(2, [&](Local& local) {
    // Rank 0 prefetches the second unit and never waits for it; rank 1 gathers it late.
    Rank rank(layout, local, {.prefetch = local.rank() == 0 ? 1 : 0});
    static_cast<void>(rank.parameters.gather(Unit{0}));
    if (local.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      peer_came = true;
      static_cast<void>(rank.parameters.gather(Unit{1}));
    }
    rank.parameters.begin_backward();
    rank.parameters.before_update();
    CHECK(peer_came);
    for (float& weight : rank.parameters.array().held_span(0)) weight = 5;
    const auto weights = rank.parameters.gather(Unit{0});
    CHECK(weights.trainable()[99] == 5);
  });
}

TEST_CASE("an update waits for a prefetched gather, also if a unit without elements took its slot") {
  Layout layout;
  layout.add_unit("nothing");
  for (const char* name : {"a", "b", "c"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
  }
  std::atomic<bool> peer_came = false;
  run_ranks(2, [&](Local& local) {
    Rank rank(layout, local, {.prefetch = 1});
    static_cast<void>(rank.parameters.gather(Unit{1}));  // a in slot 0, b prefetched to slot 1
    if (local.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      peer_came = true;
    }
    static_cast<void>(rank.parameters.gather(Unit{2}));  // c prefetched to slot 0
    rank.parameters.begin_backward();
    static_cast<void>(rank.parameters.gather(Unit{0}));  // no elements, in slot 0
    rank.parameters.before_update();                     // c still reads the peers' shards
    CHECK(peer_came);
  });
}

template <Placement of_state>
void check_groups() {
  const Layout layout = units(4);
  for (const int group_size : {1, 2, 4})
    run_ranks(4, [&](Local& local) {
      RankOf<placement::group, of_state> rank(layout, local, {.prefetch = 1, .group_size = group_size});
      for (int step = 0; step < 2; ++step) {
        for (const Unit u : layout.forward()) {
          const auto weights = rank.parameters.gather(u);
          const Tensor w = *layout.tensors(u).begin();
          for (index_t i = 0; i < 100; ++i)
            REQUIRE(weights[w][i] == static_cast<float>(layout.place(w).begin + i + 1000 * step));
        }
        rank.parameters.before_update();
        const auto& trainable = rank.parameters.array();
        for (int b = 0; b < rank.sharding.buckets(); ++b) {
          const bool all = of_state == placement::group;
          for (float& weight : all ? trainable.held_span(b) : trainable.owned_span(b)) weight += 1000;
          rank.parameters.publish(b, step);
        }
        rank.parameters.before_read();
        for (int b = 0; b < rank.sharding.buckets(); ++b)
          for (index_t i = trainable.held(b).begin; i < trainable.held(b).end; ++i)
            REQUIRE(*trainable.at(b, i) == static_cast<float>(i + 1000 * (step + 1)));
      }
      for (const Record& record : rank.comm.log()) {
        const bool of_update = std::string(record.tag.what) == "updated parameters of bucket";
        REQUIRE(record.over == (of_update ? Ranks::peers : Ranks::group));
        REQUIRE((!of_update || of_state == placement::world));
      }
    });
}

TEST_CASE("over groups, units are gathered within groups, and an update of the state's owners among peers") {
  check_groups<placement::group>();
  check_groups<placement::world>();
}

TEST_CASE("what an update gathers arrives before a drop withdraws the gathers ahead") {
  const Layout layout = units(3);
  run_ranks(2, [&](Local& local) {
    RankOf<placement::group, placement::world> rank(layout, local, {.prefetch = 1, .group_size = 1});
    const auto& trainable = rank.parameters.array();
    rank.parameters.before_update();
    if (local.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the other drops meanwhile
    for (int b = 0; b < 3; ++b) {
      for (float& weight : trainable.owned_span(b)) weight += 1000;
      rank.parameters.publish(b, 0);
    }
    rank.parameters.drop();
    for (int b = 0; b < 3; ++b)
      for (index_t i = trainable.held(b).begin; i < trainable.held(b).end; ++i)
        REQUIRE(*trainable.at(b, i) == static_cast<float>(i + 1000));
  });
}

}  // namespace
}  // namespace tessera::engine
