#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <tessera/model/step_time.hpp>
#include <tessera/tessera.hpp>

#include "page.hpp"

namespace {

// [choosing.md]
tessera::StepTime time_of_a_step(const tessera::Layout& layout, int world, const tessera::Network& network,
                                 const std::vector<tessera::UnitSeconds>& units) {
  const tessera::Options options{.prefetch = 2};
  const tessera::Sharding sharding(layout, world, options.bucket_bytes / sizeof(tessera::bfloat16));
  const auto footprint = tessera::footprint_of<tessera::AdamW, tessera::Stage3, tessera::Bf16>();
  return tessera::step_time(sharding, footprint, options, units, network);
}
// [end]

}  // namespace

namespace tessera {
namespace {

// A simulated clock: a rank's computation advances it, and a wait sets it to the end of what is waited for. The
// complete, unchanged engine below runs on it, so the test observes exactly where and for what the engine waits.
struct Clock {
  double now = 0;
  double wire = 0;  // the end of the last collective: they run in sequence, as in model/simulated.hpp
};

struct ClockEvent {
  double at = 0;
};

// Computes as Host does and takes no time, except for the update: that takes seconds per element.
struct ClockHost : Host {
  using Event = ClockEvent;

  explicit ClockHost(Clock& clock) : clock(&clock) {}

  Event record() const noexcept { return {clock->now}; }
  void wait(const Event& event) { clock->now = max(clock->now, event.at); }

  template <class Body>
  void for_each(index_t n, Body body) {
    if constexpr (requires { body.norm; }) clock->now += update_seconds * static_cast<double>(n);
    Host::for_each(n, body);
  }

  static constexpr double update_seconds = 1.0 / 4096;

  Clock* clock;
};

// A world of one rank whose collectives take the time of `world` ranks.
class ClockSelf {
 public:
  using Executor = ClockHost;
  static constexpr bool ordered = true;

  ClockSelf(Clock& clock, const Network& network, int world) : clock_(&clock), network_(network), world_(world) {}

  class Queue {
   public:
    using Event = ClockEvent;

    Queue(Clock& clock, const Network& network, int world)
        : clock_(&clock), network_(network), world_(world), self_(Self{}.queue({})) {}

    template <CollectiveCall Call>
    ClockEvent post(const Call& call, const ClockEvent& after) {
      self_.post(call);
      index_t elements = 0;
      for (const auto& piece : call.pieces) elements += vector_elements<Call>(piece);
      const index_t bytes = elements * element_type<typename Call::Input>().bytes;
      clock_->wire = max(clock_->wire, after.at) + network_.seconds(Call::kind, static_cast<double>(bytes), world_);
      return {clock_->wire};
    }
    void drop() noexcept {}

   private:
    Clock* clock_;
    Network network_;
    int world_;
    Self::Queue self_;
  };

  int rank() const noexcept { return 0; }
  int size() const noexcept { return 1; }
  ClockHost executor() const { return ClockHost(*clock_); }
  Queue queue(std::chrono::nanoseconds) const { return {*clock_, network_, world_}; }

 private:
  Clock* clock_;
  Network network_;
  int world_;
};

static_assert(Communicator<ClockSelf>);

struct Case {
  Layout layout;
  Options options;
  Network network;
  double forward = 1;  // seconds of the first unit; each further unit takes 10% more
  double backward = 2;
  int world = 8;
};

double growing(double first, Unit u) { return first * (1 + 0.1 * u.index); }

// The training loop of docs/design.md, section 1, on the clock. Returns the seconds of the third step.
template <class Rule, class Stage, class Precision>
double of_the_engine(const Case& c) {
  Clock clock;
  Sharded<Rule, Stage, Precision, ClockSelf> optimizer(ClockSelf(clock, c.network, c.world), c.layout, {}, Rule{},
                                                       c.options);
  optimizer.initialize([](Tensor, index_t) { return 0.0f; });
  double began = 0;
  const auto in_use = [&](Unit u, auto look) {
    look(u);
    for (const Unit owner : c.layout.forward())
      if (c.layout.tied(u, owner)) look(owner);
  };
  for (int step = 0; step < 3; ++step) {
    began = clock.now;
    for (int pass = 0; pass < c.options.micro_batches; ++pass) {
      for (const Unit u : c.layout.forward()) {
        std::vector<Weights<typename Precision::Parameter>> weights;
        in_use(u, [&](Unit used) { weights.push_back(optimizer.gather(used)); });
        clock.now += growing(c.forward, u);
      }
      auto backward = optimizer.backward();
      for (const Unit u : c.layout.backward()) {
        std::vector<Weights<typename Precision::Parameter>> weights;
        in_use(u, [&](Unit used) { weights.push_back(optimizer.gather(used)); });
        in_use(u, [&](Unit used) { static_cast<void>(backward.gradients(used)); });
        clock.now += growing(c.backward, u);
        backward.ready(u);
      }
    }
    optimizer.step();
  }
  return clock.now - began;
}

template <class Rule, class Stage, class Precision>
StepTime of_the_model(const Case& c) {
  std::vector<UnitSeconds> units;
  for (const Unit u : c.layout.forward()) {
    index_t updated = 0;
    for (const Tensor t : c.layout.tensors(u)) updated += c.layout.frozen(t) ? 0 : c.layout.elements(t);
    units.push_back(
        {growing(c.forward, u), growing(c.backward, u), static_cast<double>(updated) * ClockHost::update_seconds});
  }
  const Sharding sharding(c.layout, c.world, c.options.bucket_bytes / index_t{sizeof(typename Precision::Gradient)});
  // the engine below has the agreement words of a world of one rank
  auto footprint = footprint_of<Rule, Stage, Precision>();
  footprint.agreement_words += std::exchange(footprint.agreement_words_per_rank, 0);
  return step_time(sharding, footprint, c.options, units, c.network);
}

template <class Rule, class Stage, class Precision>
void check_same_seconds(const Case& c) {
  const StepTime model = of_the_model<Rule, Stage, Precision>(c);
  CHECK(model.seconds == doctest::Approx(of_the_engine<Rule, Stage, Precision>(c)).epsilon(1e-12));
  CHECK(model.exposed == doctest::Approx(model.seconds - model.compute).epsilon(1e-9));
}

template <class Rule, class Precision>
void check_every_stage(const Case& c) {
  check_same_seconds<Rule, Stage0, Precision>(c);
  check_same_seconds<Rule, Stage1, Precision>(c);
  check_same_seconds<Rule, Stage2, Precision>(c);
  check_same_seconds<Rule, Stage3, Precision>(c);
}

Layout layers(int units, index_t elements) {
  Layout layout;
  for (int u = 0; u < units; ++u) {
    layout.add_unit("layer" + std::to_string(u));
    layout.add_tensor("weight", {elements});
  }
  return layout;
}

// Units of different sizes, a frozen tensor, a unit without tensors, and a head that shares the first unit's table.
Layout awkward() {
  Layout layout;
  const Unit embedding = layout.add_unit("embedding");
  layout.add_tensor("table", {130, 7});
  layout.add_unit("body");
  layout.add_tensor("weight", {700});
  layout.add_tensor("running", {90}, {.frozen = true});
  layout.add_unit("nothing");
  layout.add_unit("all frozen");
  layout.add_tensor("weight", {300}, {.frozen = true});
  layout.add_unit("large");
  layout.add_tensor("weight", {3000});
  const Unit head = layout.add_unit("head");
  layout.add_tensor("bias", {5});
  layout.tie(head, embedding);
  return layout;
}

constexpr Network slow(double bytes_a_second) { return {.within = {0.01, bytes_a_second}}; }

TEST_CASE("the model has the engine's seconds, whether computation or communication bounds the step") {
  for (const double bandwidth : {100.0, 1000.0, 3000.0, 1e6})
    for (const index_t bucket_bytes : {index_t{1}, index_t{5000}, index_t{1} << 20})
      for (const int prefetch : {0, 1, 3}) {
        CAPTURE(bandwidth);
        CAPTURE(bucket_bytes);
        CAPTURE(prefetch);
        check_every_stage<Adam, Fp32>(
            {layers(7, 640), {.bucket_bytes = bucket_bytes, .prefetch = prefetch}, slow(bandwidth)});
      }
}

TEST_CASE("the same with accumulation, another reduction type, norms of tensors, frozen, tied and empty units") {
  for (const double bandwidth : {200.0, 2000.0, 1e6})
    for (const int micro_batches : {1, 2, 3})
      for (const index_t bucket_bytes : {index_t{1}, index_t{3000}}) {
        CAPTURE(bandwidth);
        CAPTURE(micro_batches);
        CAPTURE(bucket_bytes);
        const Options options{.micro_batches = micro_batches, .bucket_bytes = bucket_bytes};
        check_every_stage<AdamW, Bf16ReduceFp32>({awkward(), options, slow(bandwidth)});
        check_every_stage<Lamb, Bf16>({awkward(), options, slow(bandwidth)});
      }
}

TEST_CASE("many passes take as long as in the engine, although the model computes only those before they repeat") {
  for (const double bandwidth : {200.0, 1000.0, 1e6})
    for (const int prefetch : {0, 2}) {
      CAPTURE(bandwidth);
      CAPTURE(prefetch);
      check_every_stage<AdamW, Fp32>(
          {layers(5, 640), {.micro_batches = 24, .bucket_bytes = 1, .prefetch = prefetch}, slow(bandwidth)});
    }
}

// Four units of 640 float elements, one per bucket, on eight ranks. A collective of one bucket takes 1 second, an
// all-reduce of one takes 2, and collectives of no bytes take 0.
constexpr int ranks = 8;
constexpr double bucket_bytes = 640 * 4;
constexpr Network one_second{.within = {0, 7.0 / 8 * bucket_bytes}};

// Without an agreement, so that only gradients and parameters are sent.
template <class Rule, class Stage, class Precision>
constexpr Footprint silent() {
  Footprint footprint = footprint_of<Rule, Stage, Precision>();
  footprint.agreement_words = footprint.agreement_words_per_rank = footprint.agreement_words_per_unit = 0;
  return footprint;
}

template <class Stage>
StepTime four_units(UnitSeconds unit, const Network& network = one_second, index_t bucket = 1, int passes = 1,
                    int prefetch = 1) {
  const Sharding sharding(layers(4, 640), ranks, bucket);
  return step_time(sharding, silent<Adam, Stage, Fp32>(), {.micro_batches = passes, .prefetch = prefetch},
                   std::vector<UnitSeconds>(4, unit), network);
}

TEST_CASE("a network that takes no time exposes nothing") {
  const StepTime time = four_units<Stage3>({1, 2, 0.5}, Network{});
  CHECK(time.seconds == 14);
  CHECK(time.compute == 14);
  CHECK(time.communication == 0);
  CHECK(time.exposed == 0);
}

TEST_CASE("without computation the collectives run in sequence") {
  CHECK(four_units<Stage0>({}).seconds == 8);  // reductions, gathers of the sums
  CHECK(four_units<Stage1>({}).seconds == 8);  // reductions, gathers of the parameters
  CHECK(four_units<Stage2>({}).seconds == 8);
  CHECK(four_units<Stage3>({}).seconds == 10);  // four gathers in forward, two and four reductions in backward
  CHECK(four_units<Stage3>({}).exposed == 10);
  CHECK(four_units<Stage3>({}).communication == 10);
}

TEST_CASE("the last bucket's reduction and the first unit's gather cannot overlap with computation") {
  CHECK(four_units<Stage0>({10, 20, 0}).exposed == 2);  // the first unit's reduction and its gather
  CHECK(four_units<Stage1>({10, 20, 0}).exposed == 2);
  CHECK(four_units<Stage2>({10, 20, 0}).exposed == 2);
  CHECK(four_units<Stage3>({10, 20, 0}).exposed == 2);  // backward starts with the weights of forward's last unit
}

TEST_CASE("with one bucket nothing overlaps at stages 0 to 2") {
  CHECK(four_units<Stage0>({10, 20, 0}, one_second, 4 * 640).exposed == 8);
  CHECK(four_units<Stage1>({10, 20, 0}, one_second, 4 * 640).exposed == 8);
  CHECK(four_units<Stage2>({10, 20, 0}, one_second, 4 * 640).exposed == 8);
}

TEST_CASE("with two gradient slots the third bucket of backward opens when the first has been reduced") {
  // Backward takes no time and forward overlaps with the gathers: stages 1 and 2 both wait for four reductions.
  CHECK(four_units<Stage1>({2, 0, 0}).exposed == four_units<Stage2>({2, 0, 0}).exposed);
  // The last unit of backward takes long, but at stage 2 it begins only when the second reduction has ended.
  const Sharding sharding(layers(4, 640), ranks, 1);
  const std::vector<UnitSeconds> units{{10, 5, 0}, {10, 0, 0}, {10, 0, 0}, {10, 0, 0}};
  const auto exposed = [&]<class Stage>(Stage) {
    return step_time(sharding, silent<Adam, Stage, Fp32>(), {}, units, one_second).exposed;
  };
  CHECK(exposed(Stage1{}) == 2);      // its own bucket, and the first gather
  CHECK(exposed(Stage2{}) == 2 + 2);  // and two reductions before it begins
}

TEST_CASE(
    "a rank sends 2(N-1)/N n elements per step at stages 0 to 2, at stage 3 half as much again minus held buckets") {
  const double once = 7.0 / 8 * 4 * bucket_bytes;
  CHECK(four_units<Stage0>({}).sent_bytes == 2 * once);
  CHECK(four_units<Stage1>({}).sent_bytes == 2 * once);
  CHECK(four_units<Stage2>({}).sent_bytes == 2 * once);
  for (int prefetch = 0; prefetch <= 5; ++prefetch) {
    const double stays = min(1 + prefetch, 4) / 4.0;
    CHECK(four_units<Stage3>({}, one_second, 1, 1, prefetch).sent_bytes == (3 - stays) * once);
    CHECK(four_units<Stage3>({}, one_second, 1, 3, prefetch).sent_bytes == (3 * 3 - 5 * stays) * once);
  }
}

// Seconds on the wire of a step of hybrid sharding: eight ranks on nodes of four, whose links cost bytes alone.
template <class Stage>
double seconds_on_the_wire(int group_size) {
  constexpr Network network{.within = {0, 1000}, .between = {0, 100}, .ranks_per_node = 4};
  const Layout layout = layers(6, 64 * 8);
  const std::vector<UnitSeconds> units(6);
  return step_time(Sharding(layout, 8, 1, group_size), footprint_of<Sgd, Stage, Fp32>(), {.prefetch = 0}, units, network)
             .communication -
         network.seconds(Collective::all_reduce, 8.0 * engine::AgreementWords::size(8, 6), 8);
}

TEST_CASE("in groups that are nodes, only sums and what an update sends go between nodes") {
  const double bytes = 4.0 * 64 * 8 * 6;
  const double sums = 3.0 / 4 * bytes / 1000 + 1.0 / 8 * bytes / 100;
  const double gathers = (2 - 1.0 / 6) * 3 / 4 * bytes / 1000;  // twice a step, but for the bucket at the turn
  const double among_peers = 1.0 / 2 * bytes / 4 / 100;
  CHECK(seconds_on_the_wire<StageHybrid>(4) == doctest::Approx(sums + gathers + among_peers).epsilon(1e-9));
  CHECK(seconds_on_the_wire<StageHybridState>(4) == doctest::Approx(sums + gathers + among_peers).epsilon(1e-9));
}

TEST_CASE("in one group of all ranks, hybrid sharding takes what stage 3 takes") {
  CHECK(seconds_on_the_wire<StageHybrid>(8) == seconds_on_the_wire<Stage3>(1));
  CHECK(seconds_on_the_wire<StageHybridState>(8) == seconds_on_the_wire<Stage3>(1));
}

TEST_CASE("every pass is reduced, and what is gathered at the end of a pass serves the next one") {
  CHECK(four_units<Stage2>({}, one_second, 1, 3).communication == 3 * 4 + 4);
  CHECK(four_units<Stage3>({}, one_second, 1, 3).communication == 3 * 12 - 5 * 2);
}

TEST_CASE("the computation of a flat layout is spread over its buckets") {
  const Layout flat = Layout::flat(4 * 1024);
  const Sharding sharding(flat, 2, 1024);
  REQUIRE(sharding.buckets() == 4);
  const Network network{.within = {0, 1024 * 4 / 2}};  // a second per bucket
  const std::vector<UnitSeconds> whole{{40, 80, 0}};
  const StepTime time = step_time(sharding, silent<Adam, Stage1, Fp32>(), {}, whole, network);
  CHECK(time.compute == 120);
  CHECK(time.exposed == 2);  // only the first bucket's reduction and gather are exposed
}

TEST_CASE("the page shows the comparison that is compiled here") {
  CHECK(testing::page_shows("docs/choosing.md", "tests/model/step_time.cpp", "choosing.md"));
  CHECK(time_of_a_step(layers(3, 640), 2, {}, std::vector<UnitSeconds>(3, {1, 2, 3})).seconds == 18);
}

TEST_CASE("step_time is usable in constant expressions") {
  constexpr auto seconds = [] {
    Layout layout;
    layout.add_unit("only");
    layout.add_tensor("weight", {640});
    const UnitSeconds units[] = {{1, 2, 3}};
    return step_time(Sharding(layout, ranks, 1), silent<Adam, Stage3, Fp32>(), {}, units, one_second).seconds;
  };
  static_assert(seconds() == 1 + 1 + 2 + 1 + 3);  // gather, forward, backward, reduction, update
}

TEST_CASE("the number of units, options and network are checked") {
  const Sharding sharding(layers(4, 640), ranks, 1);
  const Footprint of = silent<Adam, Stage1, Fp32>();
  const std::vector<UnitSeconds> three(3), four(4);
  CHECK_THROWS_WITH_AS(step_time(sharding, of, {}, three, {}),
                       "step_time: the layout has 4 units, but seconds of 3 were given", OptionError);
  CHECK_THROWS_AS(step_time(sharding, of, {.prefetch = -1}, four, {}), OptionError);
  CHECK_THROWS_AS(step_time(sharding, of, {}, four, {.within = {.bandwidth = 0}}), OptionError);
  CHECK_THROWS_AS(step_time(sharding, of, {}, four, {.ranks_per_node = 3}), OptionError);
  const std::vector<UnitSeconds> one(1);
  CHECK_THROWS_WITH_AS(step_time(Sharding(Layout::flat(640), ranks, 1), silent<Adam, Stage3, Fp32>(), {}, one, {}),
                       "step_time: a flat layout keeps its gradients in the caller's buffer: stages 0 and 1",
                       LayoutError);
}

}  // namespace
}  // namespace tessera
