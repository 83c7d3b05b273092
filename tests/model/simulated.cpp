#include <doctest/doctest.h>

#include <time.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/decorators/recording.hpp>
#include <tessera/comm/self.hpp>
#include <tessera/model/simulated.hpp>
#include <tessera/tessera.hpp>

#include "page.hpp"
#include "training.hpp"

namespace {

// [a network that is not there]
constexpr tessera::Network network{.within = {.latency = 3e-6, .bandwidth = 200e9},  // seconds, bytes a second
                                   .between = {.latency = 10e-6, .bandwidth = 25e9},
                                   .ranks_per_node = 2};

void train_on_two_nodes(const tessera::Layout& layout) {
  tessera::Wire wire(network, 4);  // what the ranks share, for one run
  tessera::run_ranks(4, [&](tessera::Local& local) {
    tessera::Simulated comm(local, wire);
    tessera::Sharded<tessera::AdamW, tessera::Stage3, tessera::Fp32, decltype(comm)> optimizer(comm, layout, {},
                                                                                               tessera::AdamW{});
    // ... the loop, as on any communicator
  });
}
// [end]

}  // namespace

namespace tessera {
namespace {

using Floats = std::vector<float>;
using In = std::span<const float>;
using Out = std::span<float>;

TEST_CASE("the page shows the network that is compiled here, and it builds an optimizer") {
  CHECK(testing::page_shows("docs/communicators.md", "tests/model/simulated.cpp", "a network that is not there"));
  Layout layout;
  layout.add_unit("only");
  layout.add_tensor("w", {100});
  train_on_two_nodes(layout);
}

static_assert(Communicator<Simulated<Self>> && Communicator<Simulated<Local>>);
static_assert(Communicator<Recording<Simulated<Local>>> && Communicator<Simulated<Recording<Local>>>);
static_assert(Simulated<Local>::ordered);

constexpr Network slow_link(double seconds) { return {.within = {.latency = seconds}}; }  // per message
constexpr double an_hour = 3600;

// The ranks' worker threads move the data of collectives larger than this; the last rank to join moves all others.
constexpr LocalOptions by_workers{.inline_bytes = 0};

// Calls f(Simulated<Local>&) on every rank.
template <class F>
void run_simulated(Wire& wire, F f, LocalOptions options = {}) {
  run_ranks(
      wire.world(),
      [&](Local& local) {
        Simulated comm(local, wire);
        f(comm);
      },
      options);
}

TEST_CASE("collectives have the results of the communicator below") {
  for (const LocalOptions options : {by_workers, LocalOptions{}}) {
    Wire wire(slow_link(1e-5), 3);
    run_simulated(
        wire,
        [](Simulated<Local>& comm) {
          auto queue = comm.queue(std::chrono::seconds(30));
          const auto mine = static_cast<float>(comm.rank());
          Floats leaves(9, mine), sum(3), parts(9), sent{mine, mine, mine}, received(3), root(2, mine);
          queue.post(ReduceScatter(In(leaves), Out(sum), 3, {"g", 0, 0}, 2));
          queue.post(AllGather(In(sum), Out(parts), 3, {"p", 0, 0}));
          queue.post(AllToAll(In(sent), Out(received), {"t", 0, 0}));
          queue.post(Broadcast(Out(root), 2, {"b", 0, 0}));
          queue.post(AllReduce(Out(leaves), {"n", 0, 0})).wait();
          CHECK(parts == Floats(9, 6));
          CHECK(received == Floats{0, 1, 2});
          CHECK(root == Floats(2, 2));
          CHECK(leaves == Floats(9, 3));
        },
        options);
  }
}

template <class Stage, class Comm>
testing::Outcome outcome_of(Comm& comm) {
  const Layout layout = testing::ragged_layout();
  Sharded<AdamW, Stage, Fp32, Comm> optimizer(comm, layout, {}, {AdamW{.lr = 1e-2f}, AdamW{.lr = 1e-3f}},
                                              {.bucket_bytes = 2000});
  optimizer.initialize(testing::made_up_weight);
  return testing::run_steps(optimizer, comm.rank(), comm.size(), 3, 1);
}

TEST_CASE("training has the same bits as without a network") {
  testing::Outcome expected;
  run_ranks(4, [&](Local& comm) {
    const testing::Outcome outcome = outcome_of<Stage3>(comm);
    if (comm.rank() == 0) expected = outcome;
  });
  Wire wire({.within = {2e-5, 1e9}, .between = {1e-4, 1e8}, .ranks_per_node = 2}, 4);
  run_simulated(wire, [&](Simulated<Local>& comm) { CHECK(outcome_of<Stage3>(comm) == expected); });
  CHECK(wire.busy_seconds() > 0);
}

TEST_CASE("an event is done on every rank when the network's time has passed") {
  const Network network{.within = {.latency = 2e-3, .bandwidth = 1e6}};
  Wire wire(network, 3);
  run_simulated(wire, [&](Simulated<Local>& comm) {
    auto queue = comm.queue(std::chrono::seconds(30));
    Floats x(3000, 1.0f);
    const core::Clock::time_point begin = core::Clock::now();
    const HostEvent event = queue.post(AllReduce(Out(x), {"x", 0, 0}));
    event.wait();
    CHECK(core::seconds_of(core::Clock::now() - begin) >= 0.9999 * network.seconds(Collective::all_reduce, 12000, 3));
    CHECK(event.done());
    CHECK(x == Floats(3000, 3.0f));
  });
  CHECK(wire.busy_seconds() == network.seconds(Collective::all_reduce, 12000, 3));
}

TEST_CASE("the time begins when the last rank joins") {
  Wire wire(slow_link(2e-3), 2);
  core::Clock::time_point last_came{};
  run_simulated(wire, [&](Simulated<Local>& comm) {
    auto queue = comm.queue(std::chrono::seconds(30));
    float x = 1;
    if (comm.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      last_came = core::Clock::now();
    }
    queue.post(AllReduce(Out(&x, 1), {"x", 0, 0})).wait();
    CHECK(core::Clock::now() >= last_came + std::chrono::microseconds(3999));
  });
}

TEST_CASE("collectives of all queues use a rank's one link one after another") {
  for (const LocalOptions options : {by_workers, LocalOptions{}}) {
    Wire wire(slow_link(1e-3), 2);
    core::Clock::time_point begin[2];
    run_simulated(
        wire,
        [&](Simulated<Local>& comm) {
          auto first = comm.queue(std::chrono::seconds(30)), second = comm.queue(std::chrono::seconds(30));
          begin[comm.rank()] = core::Clock::now();
          Floats xs(12, 1.0f);
          HostEvent events[12];
          for (int i = 0; i < 12; ++i) {
            // the two ranks post in opposite order
            auto& queue = (i + comm.rank()) % 2 ? first : second;
            events[i] = queue.post(AllReduce(Out(xs).subspan((i / 2 * 2) + (&queue == &first), 1), {"x", i / 2, 0}));
          }
          for (const HostEvent& event : events) event.wait();
          CHECK(core::seconds_of(core::Clock::now() - begin[comm.rank()]) >= 0.9999 * 12 * 2e-3);
          CHECK(xs == Floats(12, 2.0f));
        },
        options);
    CHECK(wire.busy_seconds() == doctest::Approx(12 * 2e-3));
  }
}

TEST_CASE("posting takes no time, and waiting takes no processor time") {
  Wire wire(slow_link(an_hour), 2);
  run_simulated(wire, [&](Simulated<Local>& comm) {
    std::vector<Floats> xs(50, Floats(10, 1.0f));  // must outlive the queue and its collectives in flight
    auto queue = comm.queue(std::chrono::seconds(30));
    std::vector<HostEvent> events;
    for (int i = 0; i < 50; ++i) events.push_back(queue.post(AllReduce(Out(xs[i]), {"x", i, 0})));
    for (const HostEvent& event : events) CHECK(!event.done());
  });
  const auto processor_seconds = [] {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  Wire slow(slow_link(0.02), 2);
  run_simulated(slow, [&](Simulated<Local>& comm) {
    auto queue = comm.queue(std::chrono::seconds(30));
    float x = 1;
    const double begin = processor_seconds();
    queue.post(AllReduce(Out(&x, 1), {"x", 0, 0})).wait();
    CHECK(processor_seconds() - begin < 0.01);  // of 0.04
  });
}

TEST_CASE("a drop ends the time of joined collectives, cancels the others and leaves the next epoch unaffected") {
  for (const LocalOptions options : {by_workers, LocalOptions{}})
    for (const double seconds : {0.0, an_hour}) {
      Wire wire(slow_link(seconds), 3);
      std::barrier all_have_come(3);
      run_simulated(
          wire,
          [&](Simulated<Local>& comm) {
            auto queue = comm.queue(std::chrono::seconds(30));
            for (int round = 0; round < 3; ++round) {
              Floats x(200, 1.0f), lost(200, 1.0f), never(200, 1.0f);
              const HostEvent good = queue.post(AllReduce(Out(x), {"x", 0, round}));
              HostEvent first, second;
              if (comm.rank() != round) {
                first = queue.post(AllReduce(Out(lost), {"lost", 0, round}));
                second = queue.post(AllReduce(Out(never), {"never", 0, round}));
                CHECK(!second.done());
              }
              all_have_come.arrive_and_wait();
              queue.drop();
              CHECK(good.done());
              good.wait();
              CHECK(x == Floats(200, 3.0f));
              CHECK(lost == Floats(200, 1.0f));
              if (comm.rank() == round) continue;
              CHECK(!first.done());
              CHECK(!second.done());
              CHECK_THROWS_AS(first.wait(), CommError);
              CHECK_THROWS_AS(second.wait(), CommError);
            }
          },
          options);
    }
}

TEST_CASE("in an epoch that another rank dropped, waits report who dropped and what is missing") {
  Wire wire(slow_link(1e-5), 3);
  run_simulated(wire, [&](Simulated<Local>& comm) {
    auto queue = comm.queue(std::chrono::seconds(30));
    float x = 1, lost = 1;
    queue.post(AllReduce(Out(&x, 1), {"x", 0, 0})).wait();
    if (comm.rank() != 1) {
      CHECK_THROWS_WITH_AS(queue.post(AllReduce(Out(&lost, 1), {"gradients of bucket", 2, 9})).wait(),
                           doctest::Contains("rank 1 dropped pass 9 and does not join all_reduce of 1 float"),
                           CommError);
    }
    queue.drop();
    queue.post(AllReduce(Out(&x, 1), {"x", 1, 0})).wait();
    CHECK(x == 9);
  });
}

TEST_CASE("a rank that detaches has left the queue, and collectives that only it joined are canceled") {
  Wire wire(slow_link(1e-5), 2);
  run_simulated(wire, [&](Simulated<Local>& comm) {
    auto queue = comm.queue(std::chrono::seconds(30)), other = comm.queue(std::chrono::seconds(30));
    float x = 1, y = 1;
    if (comm.rank() == 1) {
      queue.post(AllReduce(Out(&x, 1), {"x", 0, 0}));
      queue.detach();
      queue.detach();
    }
    other.post(AllReduce(Out(&y, 1), {"y", 0, 0})).wait();
    if (comm.rank() == 0)
      CHECK_THROWS_WITH_AS(queue.post(AllReduce(Out(&x, 1), {"x", 0, 0})).wait(),
                           doctest::Contains("rank 1 has left and does not join all_reduce of 1 float"), CommError);
    CHECK(x == 1);
  });
}

TEST_CASE("a wait longer than the timeout names the missing ranks, and the network's own time does not count") {
  Wire wire(slow_link(0.02), 2);
  std::string errors[2];
  std::atomic<bool> over = false;
  run_simulated(wire, [&](Simulated<Local>& comm) {
    auto patient = comm.queue(std::chrono::seconds(30));
    float x = 1;
    patient.post(AllReduce(Out(&x, 1), {"x", 0, 0})).wait();  // so that both begin together
    auto hasty = comm.queue(std::chrono::milliseconds(10));
    try {
      if (comm.rank() == 0) hasty.post(AllReduce(Out(&x, 1), {"norm of step", 5, 6})).wait();
      while (!over) std::this_thread::yield();  // computes
      patient.post(AllReduce(Out(&x, 1), {"x", 1, 0})).wait();
    } catch (const CommError& error) {
      errors[comm.rank()] = error.what();
      over = true;
    }
  });
  for (const std::string& error : errors)
    CHECK(error ==
          "rank 1 has not called all_reduce of 1 float (norm of step 5, pass 6) after 10 ms: rank 0 waits in queue 1 "
          "for all_reduce "
          "of 1 float (norm of step 5, pass 6); rank 1 last called all_reduce of 1 float (x 0, pass 0)");
  Wire another(slow_link(0.02), 2);
  std::barrier all_have_come(2);
  run_simulated(another, [&](Simulated<Local>& comm) {
    auto hasty = comm.queue(std::chrono::milliseconds(10));
    float x = 1;
    const HostEvent event = hasty.post(AllReduce(Out(&x, 1), {"x", 0, 0}));
    all_have_come.arrive_and_wait();
    CHECK_NOTHROW(event.wait());  // after 40 ms
  });
}

TEST_CASE("a rank that throws ends the waits of the others, which name it, and its error is rethrown") {
  struct Custom : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  for (const LocalOptions options : {by_workers, LocalOptions{}}) {
    Wire wire(slow_link(1e-5), 3);
    CHECK_THROWS_WITH_AS(run_simulated(
                             wire,
                             [](Simulated<Local>& comm) {
                               auto queue = comm.queue(std::chrono::seconds(30));
                               Floats x(1000);
                               queue.post(AllReduce(Out(x), {"x", 0, 0})).wait();
                               if (comm.rank() == 2) throw Custom("out of luck");
                               CHECK_THROWS_WITH_AS(queue.post(AllReduce(Out(x), {"x", 1, 0})).wait(),
                                                    "rank 2 failed: out of luck", CommError);
                             },
                             options),
                         "out of luck", Custom);
  }
}

TEST_CASE("if ranks call differently, all ranks get both calls in their errors") {
  Wire wire(slow_link(1e-5), 2);
  std::string errors[2];
  run_simulated(wire, [&](Simulated<Local>& comm) {
    auto queue = comm.queue(std::chrono::seconds(30));
    Floats x(4);
    try {
      queue.post(AllReduce(Out(x), {"x", comm.rank(), 0})).wait();
    } catch (const AgreementError& error) {
      errors[comm.rank()] = error.what();
    }
  });
  for (const std::string& error : errors) {
    CHECK(error.find("(x 0, pass 0)") != std::string::npos);
    CHECK(error.find("(x 1, pass 0)") != std::string::npos);
  }
}

TEST_CASE("a refused call was not sent") {
  Wire wire({}, 2);
  run_simulated(wire, [](Simulated<Local>& comm) {
    auto queue = comm.queue(std::chrono::seconds(30));
    Floats x(4), y(1);
    if (comm.rank() == 1) CHECK_THROWS_AS(queue.post(ReduceScatter(In(x), Out(y), 2, {})), BufferError);
    if (comm.rank() == 0) CHECK_THROWS_AS(queue.post(Broadcast(Out(x), 2, {})), OptionError);
    queue.post(AllReduce(Out(x), {"x", 0, 0})).wait();
  });
}

TEST_CASE("a wire refuses a network or world size that is not valid, and another world size") {
  CHECK_THROWS_AS(Wire({.ranks_per_node = 0}, 4), OptionError);
  CHECK_THROWS_AS(Wire({.ranks_per_node = 4}, 6), OptionError);
  CHECK_THROWS_AS(Wire({}, 0), OptionError);
  Wire wire({}, 2);
  CHECK_THROWS_WITH_AS(Simulated(Self{}, wire), "Simulated: the wire is made for 2 ranks, there are 1", OptionError);
}

TEST_CASE("on a timeline a collective lasts as long as the wire is busy with it, and a wait until it is done") {
  Timeline timeline;
  Wire wire(slow_link(0.02), 2);  // per message, as in a gather between two ranks
  run_ranks(2, [&](Local& local) {
    Simulated comm(local, wire);
    auto first = comm.queue(std::chrono::seconds(30));
    auto second = comm.queue(std::chrono::seconds(30));
    Track& waits = timeline.open(comm.rank(), "compute");
    first.time_on({&timeline.open(comm.rank(), "first"), &waits});
    second.time_on({&timeline.open(comm.rank(), "second"), &waits});
    Floats a(2), b(2);
    const auto gather = [&](auto& queue, Floats& all, index_t index) {
      return queue.post(AllGather(In(all).subspan(comm.rank(), 1), Out(all), 1, Tag{"p", index, 3}));
    };
    const auto one = gather(first, a, 1);
    const auto other = gather(second, b, 2);
    other.wait();
    one.wait();  // done already: no span
  });
  const std::vector<const Track*> tracks = timeline.tracks();
  REQUIRE(tracks.size() == 6);
  for (int r = 0; r < 2; ++r) {
    const Track& waits = *tracks[3 * r];
    REQUIRE(waits.size() == 1);
    CHECK(std::string(waits[0].kind) == "wait");
    CHECK(waits[0].index == 2);
    CHECK(waits[0].pass == 3);
    REQUIRE(tracks[3 * r + 1]->size() == 1);
    REQUIRE(tracks[3 * r + 2]->size() == 1);
    const Span& one = (*tracks[3 * r + 1])[0];
    const Span& other = (*tracks[3 * r + 2])[0];
    CHECK(std::string(one.kind) == "all_gather");
    CHECK(one.index == 1);
    CHECK(core::seconds_of(one.end - one.begin) == doctest::Approx(0.02));
    CHECK(core::seconds_of(other.end - other.begin) == doctest::Approx(0.02));
    CHECK((one.end <= other.begin || other.end <= one.begin));
    CHECK(waits[0].end >= other.end);
    CHECK(one.begin == (*tracks[1])[0].begin);  // the same time on all ranks
  }
}

}  // namespace
}  // namespace tessera
