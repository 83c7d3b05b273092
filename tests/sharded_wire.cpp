// The data that a step sends: docs/design.md, section 2.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <string>
#include <tuple>
#include <vector>

#include "training.hpp"

namespace tessera {
namespace {

template <class Stage>
struct Wire {
  index_t data = 0;         // elements of gradients and parameters that rank 0 sent in one step
  index_t all_reduced = 0;  // elements that went through an all-reduce
  index_t reduce_scatters = 0;
};

template <class Stage>
Wire<Stage> wire_of_a_step(const Layout& layout, int world, Options options = {}) {
  Wire<Stage> wire;
  run_ranks(world, [&](Local& local) {
    Recording<Local> comm(local);
    Sharded<Adam, Stage, Bf16, Recording<Local>> optimizer(comm, layout, {}, Adam{}, options);
    optimizer.initialize(testing::made_up_weight);
    for (int step = 0; step < 2; ++step) {
      comm.clear();
      for (int k = 0; k < options.micro_batches; ++k) testing::run_pass(optimizer, step, k * world + comm.rank());
      optimizer.step();
    }
    for (const Unit u : layout.forward())
      if (!Stage::shards_parameters) static_cast<void>(optimizer.gather(u));
    if (comm.rank() != 0) return;
    for (const auto& record : comm.log()) {
      if (record.kind == Collective::all_reduce)
        wire.all_reduced += record.out_elements;
      else
        wire.data += record.sent_elements;
      wire.reduce_scatters += record.kind == Collective::reduce_scatter;
    }
  });
  return wire;
}

TEST_CASE("a rank sends 2(N-1)/N n elements per step at stages 0 to 2") {
  const Layout layout = testing::even_layers(6);
  const index_t n = layout.parameters();
  for (int world : {1, 2, 3, 4, 6})
    for (index_t bucket_bytes : {index_t{1}, index_t{20000}}) {
      const index_t once = n / world * (world - 1);
      CHECK(wire_of_a_step<Stage0>(layout, world, {.bucket_bytes = bucket_bytes}).data == 2 * once);
      CHECK(wire_of_a_step<Stage1>(layout, world, {.bucket_bytes = bucket_bytes}).data == 2 * once);
      CHECK(wire_of_a_step<Stage2>(layout, world, {.bucket_bytes = bucket_bytes}).data == 2 * once);
    }
}

// Gathers: all buckets once, and each time a step turns from forward to backward or back, those that are not held.
// 1 + prefetch buckets are held.
TEST_CASE("at stage 3 with K passes a rank sends (N-1)/N (K n + n + (2K - 1)(n - held)) elements per step") {
  const Layout layout = testing::even_layers(6);
  const index_t n = layout.parameters();
  for (int world : {1, 2, 3, 4})
    for (int units_a_bucket : {1, 2})
      for (int prefetch : {0, 1, 2, 7})
        for (int passes : {1, 3}) {
          CAPTURE(world);
          CAPTURE(units_a_bucket);
          CAPTURE(prefetch);
          CAPTURE(passes);
          const index_t held = std::min(6, units_a_bucket * (1 + prefetch)) * n / 6;
          const index_t sum = passes * n + n + (2 * passes - 1) * (n - held);
          const Options options{.micro_batches = passes, .bucket_bytes = units_a_bucket * 10000, .prefetch = prefetch};
          CHECK(wire_of_a_step<Stage3>(layout, world, options).data == sum / world * (world - 1));
        }
}

TEST_CASE("only the norm's digits, three words per rank and one per unit are all-reduced, gradients never") {
  const Layout layout = testing::even_layers(3);
  const index_t words = engine::AgreementWords::size(4, layout.units());
  CHECK(wire_of_a_step<Stage0>(layout, 4).all_reduced == words);
  CHECK(wire_of_a_step<Stage1>(layout, 4).all_reduced == words);
  CHECK(wire_of_a_step<Stage2>(layout, 4).all_reduced == words);
  CHECK(wire_of_a_step<Stage3>(layout, 4).all_reduced == words);
}

TEST_CASE("every pass of an accumulation is reduced once per bucket") {
  const Layout layout = testing::even_layers(4);
  CHECK(wire_of_a_step<Stage2>(layout, 2, {.micro_batches = 3, .bucket_bytes = 1}).reduce_scatters == 12);
  CHECK(wire_of_a_step<Stage0>(layout, 2, {.micro_batches = 3, .bucket_bytes = 1}).reduce_scatters == 12);
}

// A head that shares the first unit's table, as in language models.
Layout tied_layers(int units) {
  Layout layout = testing::even_layers(units);
  layout.tie(Unit{units - 1}, Unit{0});
  return layout;
}

// What a rank sent of one kind, in order: tag, bucket, pass and number of elements.
using Sent = std::vector<std::tuple<std::string, index_t, index_t, index_t>>;

// Two steps of the training loop (docs/design.md, section 1) at stage 3, with Weights held while further units are
// gathered.
template <class Comm>
std::array<Sent, 2> train_and_keep(Comm& comm, const Layout& layout, const Options& options, std::size_t kept_at_most) {
  Sharded<Adam, Stage3, Fp32, Comm> optimizer(comm, layout, {}, Adam{}, options);
  optimizer.initialize(testing::made_up_weight);
  comm.clear();
  std::deque<Weights<float>> kept;
  const Unit head{layout.units() - 1};
  const auto gather = [&](Unit u) {
    while (kept.size() > kept_at_most) kept.pop_front();
    kept.push_back(optimizer.gather(u));
    if (u == head) kept.push_back(optimizer.gather(Unit{0}));
  };
  for (int step = 0; step < 2; ++step) {
    for (int k = 0; k < options.micro_batches; ++k) {
      for (const Unit u : layout.forward()) gather(u);
      auto pass = optimizer.backward();
      for (const Unit u : layout.backward()) {
        gather(u);
        if (u == head) static_cast<void>(pass.gradients(Unit{0}));
        for (float& g : pass.gradients(u).trainable()) g += kept.back().trainable()[0];
        pass.ready(u);
      }
    }
    optimizer.step();
  }
  std::array<Sent, 2> sent;
  for (const auto& record : comm.log())
    sent[record.kind == Collective::all_gather].push_back(
        {record.tag.what, record.tag.index, record.tag.pass, record.sent_elements});
  return sent;
}

TEST_CASE("stage 3 gathers ahead in the order of use: forwards in forward, backwards in backward") {
  run_ranks(2, [](Local& local) {
    Recording<Local> comm(local);
    Sharded<Sgd, Stage3, Fp32, Recording<Local>> optimizer(comm, testing::even_layers(5), {}, Sgd{},
                                                           {.bucket_bytes = 1, .prefetch = 1});
    optimizer.initialize(testing::made_up_weight);
    for (int step = 0; step < 2; ++step) {
      comm.clear();
      // The units whose gathers are posted by the time that a unit is gathered.
      std::string posted;
      const auto gather = [&](Unit u) {
        static_cast<void>(optimizer.gather(u));
        posted += std::to_string(u.index) + ":";
        for (const auto& record : comm.log())
          if (record.kind == Collective::all_gather) posted += " " + std::to_string(record.tag.index);
        posted += "; ";
        comm.clear();
      };
      for (const Unit u : optimizer.layout().forward()) gather(u);
      auto pass = optimizer.backward();
      for (const Unit u : optimizer.layout().backward()) {
        gather(u);
        pass.gradients(u).trainable()[0] = 1;
        pass.ready(u);
      }
      CHECK(posted == "0: 0 1; 1: 2; 2: 3; 3: 4; 4:; 4:; 3: 2; 2: 1; 1: 0; 0:; ");  // 3 stays at the turn
      optimizer.step();
    }
  });
}

TEST_CASE("the bucket of a tied unit is gathered once per step and stays in memory") {
  const Layout layout = tied_layers(6);
  run_ranks(2, [&](Local& local) {
    Recording<Local> comm(local);
    const Options options{.micro_batches = 2, .bucket_bytes = 1};
    const Sent gathers = train_and_keep(comm, layout, options, 0)[1];
    CHECK(std::ranges::count_if(gathers, [](const auto& gather) { return std::get<1>(gather) == 0; }) == 2);
    CHECK(gathers.size() == 2 * (6 + 3 * (6 - 3)));
  });
}

TEST_CASE("how long a rank holds its Weights does not change what it sends") {
  for (const int prefetch : {0, 1, 2, 3})
    for (const int micro_batches : {1, 2}) {
      const Layout layout = tied_layers(7);
      const Options options{
          .micro_batches = micro_batches, .bucket_bytes = 1, .prefetch = prefetch, .timeout = std::chrono::seconds(20)};
      std::array<Sent, 2> sent[3];
      run_ranks(3, [&](Local& local) {
        Recording<Local> comm(local);
        const int kept = std::min(local.rank(), prefetch);
        sent[local.rank()] = train_and_keep(comm, layout, options, static_cast<std::size_t>(kept));
      });
      CHECK(sent[0][1].size() > 0);
      CHECK(sent[1] == sent[0]);
      CHECK(sent[2] == sent[0]);
    }
}

}  // namespace
}  // namespace tessera
