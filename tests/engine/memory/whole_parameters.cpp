#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/comm/decorators/recording.hpp>
#include <tessera/comm/self.hpp>
#include <tessera/engine/memory/whole_parameters.hpp>

#include "drops_first.hpp"

namespace tessera::engine {
namespace {

Layout two_units() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {200});
  layout.add_tensor("frozen", {3}, {.frozen = true});
  layout.add_unit("b");
  layout.add_tensor("w", {10});
  return layout;
}

TEST_CASE("all ranks get what each rank wrote into its part, and a caller's buffer is used") {
  for (int world = 1; world <= 4; ++world)
    run_ranks(world, [&](Local& comm) {
      const Layout layout = two_units();
      const Sharding sharding(layout, world, 1);
      Host host;
      auto queue = comm.queue(std::chrono::seconds(10));
      Footprint footprint;
      footprint.state = placement::world;
      std::vector<float> buffer(layout.parameter_elements());
      WholeParameters<Local, float, true> parameters(sharding, comm.rank(), host, queue,
                                                     layout::make_plan(sharding, {}, footprint), {}, buffer);
      const testing::DropsFirst drops_first(queue);
      for (index_t round = 1; round <= 3; ++round) {
        parameters.before_update();
        for (int b = 0; b < sharding.buckets(); ++b) {
          const Range own = sharding.partition().owned(b, comm.rank());
          for (index_t i = own.begin; i < own.end; ++i)
            *parameters.array().at(b, i) = static_cast<float>(round * 1000 + i);
          parameters.publish(b, round);
        }
        for (const Unit u : layout.forward()) {
          const auto weights = parameters.gather(u);
          const index_t begin = layout.trainable(u).begin;
          for (index_t i = 0; i < layout.trainable(u).size(); ++i)
            CHECK(weights.trainable()[i] == static_cast<float>(round * 1000 + begin + i));
        }
      }
      CHECK(host.allocated_bytes() == 0);
      CHECK(parameters.array().at(2, layout.frozen_begin() + 2) == buffer.data() + layout.frozen_begin() + 2);
      const auto weights = parameters.gather(Unit{0});
      CHECK(weights[layout.find("a.frozen")].data() == buffer.data() + layout.frozen_begin());
    });
}

// A world of one rank: written elements can be read at once, and the log has what would be sent.
template <bool shards_state>
struct Alone {
  Sharding sharding;
  Host host;
  Recording<Self> comm{Self{}};
  typename Recording<Self>::Queue queue = comm.queue(std::chrono::seconds(10));
  Plan plan;
  WholeParameters<Recording<Self>, float, shards_state> parameters;

  explicit Alone(const Layout& layout, index_t bucket_elements = 1)
      : sharding(layout, 1, bucket_elements),
        plan(layout::make_plan(sharding, {}, {.state = shards_state ? placement::world : placement::replicated})),
        parameters(sharding, 0, host, queue, plan, {}, {}) {}
};

TEST_CASE("without a caller's buffer memory is allocated as planned") {
  Alone<true> alone(two_units());
  CHECK(alone.host.allocated_bytes() == alone.plan.parameters.bytes());
  CHECK(alone.plan.parameters.elements == two_units().parameter_elements());
}

TEST_CASE("every rank holds all of a bucket, also frozen elements") {
  Alone<true> alone(two_units());
  CHECK(alone.parameters.array().held(0) == Range{0, 200});
  CHECK(alone.parameters.array().held(2) == alone.sharding.layout().frozen(Unit{0}));
  CHECK(alone.parameters.array().held(3).empty());
}

TEST_CASE("non-empty parts are sent, and nothing is sent if every rank updates everything") {
  Layout layout = two_units();
  layout.add_unit("nothing");
  Alone<true> sharded(layout);
  Alone<false> whole(layout);
  for (int b = 0; b < 3; ++b) {
    sharded.parameters.publish(b, 4);
    whole.parameters.publish(b, 4);
  }
  const auto log = sharded.comm.log();
  REQUIRE(log.size() == 2);
  CHECK(log[1].kind == Collective::all_gather);
  CHECK(log[1].tag.index == 1);
  CHECK(log[1].tag.pass == 4);
  CHECK(log[1].out_elements == 10);
  CHECK(whole.comm.log().empty());
}

TEST_CASE("a flat layout is gathered by range, from any bucket to any other") {
  Alone<true> alone(Layout::flat(200), 64);
  REQUIRE(alone.sharding.buckets() == 4);
  for (index_t i = 0; i < 200; ++i) *alone.parameters.array().at(0, i) = static_cast<float>(i);
  const auto some = alone.parameters.gather(Range{60, 130});
  REQUIRE(some.size() == 70);
  CHECK(some.front() == 60);
  CHECK(some.back() == 129);
}

template <class F>
void two_ranks(const Layout& layout, index_t bucket_elements, F f) {
  run_ranks(2, [&](Local& comm) {
    const Sharding sharding(layout, 2, bucket_elements);
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    WholeParameters<Local, float, true> parameters(sharding, comm.rank(), host, queue,
                                                   layout::make_plan(sharding, {}, {.state = placement::world}), {}, {});
    const testing::DropsFirst drops_first(queue);
    f(comm.rank(), parameters);
  });
}

TEST_CASE("a gather waits for the buckets that it needs and for no others") {
  std::atomic<bool> looked = false;
  const auto publish_in_turn = [&](int rank, auto& parameters, auto gather) {
    parameters.publish(0, 0);
    // The other rank sends the second bucket only after the first was seen: waiting for both would not end.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (rank == 1 && !looked && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (rank == 1) CHECK(looked);
    parameters.publish(1, 0);
    if (rank == 0) gather();
    looked = true;
    parameters.before_update();
  };
  two_ranks(two_units(), 1, [&](int rank, auto& parameters) {
    publish_in_turn(rank, parameters, [&] { static_cast<void>(parameters.gather(Unit{0})); });
  });
  looked = false;
  two_ranks(Layout::flat(256), 128, [&](int rank, auto& parameters) {
    publish_in_turn(rank, parameters, [&] { static_cast<void>(parameters.gather(Range{5, 128})); });
  });
}

TEST_CASE("an update waits until peers have read this rank's parts") {
  std::atomic<bool> peer_came = false;
  two_ranks(two_units(), 1, [&](int rank, auto& parameters) {
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      peer_came = true;
    }
    parameters.publish(0, 0);
    parameters.before_update();
    CHECK(peer_came);
  });
}

}  // namespace
}  // namespace tessera::engine
