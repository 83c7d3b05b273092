// The errors of ranks that wait for each other, and what a rank waits for before it writes, drops or ends.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "training.hpp"

namespace tessera {
namespace {

Layout three_units() {
  Layout layout;
  for (const char* name : {"embedding", "body", "head"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
  }
  return layout;
}

const Options one_bucket_a_unit{.bucket_bytes = 1, .prefetch = 0, .timeout = std::chrono::seconds(30)};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Runs `f(comm)` on every rank and returns each rank's RankError message.
template <class Expected, class F>
std::vector<std::string> errors_of(int world, F f) {
  std::vector<std::string> errors(static_cast<std::size_t>(world));
  run_ranks(world, [&](Local& comm) {
    try {
      f(comm);
    } catch (const Expected& error) {
      errors[static_cast<std::size_t>(comm.rank())] = error.what();
    }
  });
  return errors;
}

// --- errors ---------------------------------------------------------------------------------------------------------

TEST_CASE("if one rank does not gather a unit at stage 3, all ranks get an error at once with the unit of each rank") {
  const auto errors = errors_of<AgreementError>(2, [](Local& comm) {
    Sharded<Adam, Stage3> optimizer(comm, three_units(), {}, Adam{}, one_bucket_a_unit);
    optimizer.initialize(testing::made_up_weight);
    for (const Unit u : optimizer.layout().forward())
      if (u.index < 2 || comm.rank() == 0) static_cast<void>(optimizer.gather(u));
    auto pass = optimizer.backward();
    for (const Unit u : optimizer.layout().backward()) {
      pass.gradients(u);
      pass.ready(u);
    }
    optimizer.step();
  });
  for (const std::string& error : errors) {
    CAPTURE(error);
    CHECK(contains(
        error,
        "no rank can go on: rank 0 waits in queue 1 for all_gather of 100 float in parts of 64 (parameters of "
        "bucket 2, unit 'head', pass 0); rank 1 waits in queue 0 for reduce_scatter of 100 float in parts of 64 "
        "(gradients of bucket 2, unit 'head', pass 0)"));
  }
}

TEST_CASE("units that ranks gather in different orders at stage 3 are named on all ranks") {
  const auto errors = errors_of<AgreementError>(2, [](Local& comm) {
    Sharded<Adam, Stage3> optimizer(comm, three_units(), {}, Adam{}, one_bucket_a_unit);
    optimizer.initialize(testing::made_up_weight);
    static_cast<void>(optimizer.gather(Unit{comm.rank() == 0 ? 0 : 1}));
    static_cast<void>(optimizer.gather(Unit{comm.rank() == 0 ? 1 : 0}));
  });
  for (const std::string& error : errors) {
    CAPTURE(error);
    CHECK(contains(error,
                   "rank 0 calls all_gather of 100 float in parts of 64 (parameters of bucket 0, unit "
                   "'embedding', pass 0)"));
    CHECK(contains(error,
                   "rank 1 calls all_gather of 100 float in parts of 64 (parameters of bucket 1, unit 'body', "
                   "pass 0)"));
  }
}

TEST_CASE("ranks that build and train different optimizers at the same time get an error at once") {
  const auto errors = errors_of<AgreementError>(2, [](Local& comm) {
    Sharded<Adam, Stage1> first(comm, three_units(), {}, Adam{}, one_bucket_a_unit);
    Sharded<Adam, Stage1> second(comm, three_units(), {}, Adam{}, one_bucket_a_unit);
    for (auto* const optimizer : {&first, &second}) optimizer->initialize(testing::made_up_weight);
    testing::run_steps(comm.rank() == 0 ? first : second, comm.rank(), 2, 1, 1);
  });
  for (const std::string& error : errors) {
    CAPTURE(error);
    CHECK(contains(error, "no rank can go on: rank 0 waits in queue 0 for reduce_scatter"));
    CHECK(contains(error, "; rank 1 waits in queue 2 for reduce_scatter"));
  }
}

// Rank 1 of three makes one step fewer.
template <class Stage>
void check_left(bool goes_on) {
  const auto errors = errors_of<CommError>(3, [&](Local& comm) {
    {
      Sharded<Adam, Stage> optimizer(comm, three_units(), {}, Adam{}, one_bucket_a_unit);
      optimizer.initialize(testing::made_up_weight);
      testing::run_steps(optimizer, comm.rank(), 3, comm.rank() == 1 ? 2 : 3, 1);
    }
    if (goes_on) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  });
  CHECK(errors[1].empty());
  for (const int r : {0, 2}) {
    const std::string& error = errors[static_cast<std::size_t>(r)];
    CAPTURE(error);
    CHECK(contains(error, "rank 1 has left"));
    CHECK(contains(error, "unit '"));
    CHECK_FALSE(contains(error, "dropped"));
  }
}

TEST_CASE("a rank that makes one step fewer is reported as having left, not as having dropped a pass, at every stage") {
  for (const bool goes_on : {false, true}) {
    check_left<Stage0>(goes_on);
    check_left<Stage1>(goes_on);
    check_left<Stage2>(goes_on);
    check_left<Stage3>(goes_on);
  }
}

TEST_CASE("a timeout reports the unit at which each rank is") {
  std::atomic<bool> over = false;
  Options hasty = one_bucket_a_unit;
  hasty.timeout = std::chrono::seconds(2);
  const auto errors = errors_of<CommError>(2, [&](Local& comm) {
    Sharded<Adam, Stage3> optimizer(comm, three_units(), {}, Adam{}, hasty);
    optimizer.initialize(testing::made_up_weight);
    for (const Unit u : optimizer.layout().forward()) {
      while (comm.rank() == 1 && u == Unit{2} && !over) std::this_thread::yield();  // a long forward
      try {
        static_cast<void>(optimizer.gather(u));
      } catch (...) {
        over = true;
        throw;
      }
    }
  });
  for (const std::string& error : errors) {
    CAPTURE(error);
    CHECK(contains(error,
                   "rank 1 has not called all_gather of 100 float in parts of 64 (parameters of bucket 2, unit "
                   "'head', pass 0) after 2000 ms: rank 0 waits in queue 1 for all_gather of 100 float in parts of 64 "
                   "(parameters of bucket 2, unit 'head', pass 0); rank 1 last called all_gather of 100 float in "
                   "parts of 64 (parameters of bucket 1, unit 'body', pass 0)"));
  }
}

// --- waits ----------------------------------------------------------------------------------------------------------

// The gathers of one rank that it has not waited for yet.
class Gathers final : public Completion {
 public:
  HostEvent add(HostEvent event) {
    events_.push_back({event, false});
    return {*this, events_.size() - 1};
  }
  std::uint64_t size() const { return events_.size(); }
  bool waited_for(std::uint64_t first_ones) const {
    for (std::uint64_t i = 0; i < first_ones; ++i)
      if (!done(i)) return false;
    return true;
  }
  bool all_waited_for() const { return waited_for(size()); }

  bool done(std::uint64_t ticket) const noexcept override { return events_[ticket].waited_for; }
  void wait(std::uint64_t ticket) override {
    events_[ticket].event.wait();
    events_[ticket].waited_for = true;
  }

 private:
  struct Gather {
    HostEvent event;
    bool waited_for;
  };
  std::vector<Gather> events_;
};

// What a test observes of one rank.
struct Watch {
  std::shared_ptr<exec::ByteCount> memory = std::make_shared<exec::ByteCount>();  // of the rank's executor
  std::vector<index_t> held_when_withdrawn;              // per queue: at its first drop, detach or end
  Gathers gathers;
};

struct WatchedHost : Host {
  std::shared_ptr<exec::ByteCount> memory;

  explicit WatchedHost(std::shared_ptr<exec::ByteCount> count) : memory(std::move(count)) {}
  template <class T>
  Buffer<T> allocate(index_t n) {
    return Buffer<T>(n, memory);
  }
  index_t allocated_bytes() const noexcept { return memory->held(); }
  index_t peak_bytes() const noexcept { return memory->peak(); }
};

class Watched : public CommunicatorDecorator<Local> {
 public:
  using Executor = WatchedHost;

  Watched(Local comm, Watch& watch) : CommunicatorDecorator(std::move(comm)), watch_(&watch) {}

  class Queue : public QueueDecorator<Local::Queue> {
   public:
    Queue(const Local& comm, std::chrono::nanoseconds timeout, Watch* watch)
        : QueueDecorator(comm, timeout), watch_(watch) {}
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() { withdraw(); }

    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      const Event event = QueueDecorator::post(call, after);
      return Call::kind == Collective::all_gather ? watch_->gathers.add(event) : event;
    }
    void drop() noexcept {
      withdraw();
      QueueDecorator::drop();
    }
    void detach() noexcept {
      withdraw();
      QueueDecorator::detach();
    }

   private:
    void withdraw() noexcept {
      if (!std::exchange(withdrawn_, true)) watch_->held_when_withdrawn.push_back(watch_->memory->held());
    }

    Watch* watch_;
    bool withdrawn_ = false;
  };

  Executor executor() const { return Executor(watch_->memory); }
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(below(), timeout, watch_); }

 private:
  Watch* watch_;
};

// Ranks pass each other's buffers to the same collectives, so a rank may free them only after it has canceled these.
template <class Stage>
void check_withdraws(bool fails) {
  run_ranks(2, [&](Local& local) {
    struct Failure {};
    Watch watch;
    Watched comm(local, watch);
    index_t held = 0;
    try {
      Sharded<Adam, Stage, Fp32, Watched> optimizer(comm, three_units(), {}, Adam{}, one_bucket_a_unit);
      optimizer.initialize(testing::made_up_weight);
      testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
      held = optimizer.bytes();
      if (fails) throw Failure{};
    } catch (const Failure&) {
    }
    CHECK(held > 0);
    CHECK(watch.held_when_withdrawn == std::vector<index_t>{held, held});
    CHECK(watch.memory->held() == 0);
  });
}

TEST_CASE(
    "an optimizer cancels collectives that others have not joined before it frees memory, also after an exception") {
  for (const bool fails : {false, true}) {
    check_withdraws<Stage0>(fails);
    check_withdraws<Stage1>(fails);
    check_withdraws<Stage2>(fails);
    check_withdraws<Stage3>(fails);
  }
}

// Runs f(optimizer, gathers) after a step and, at stage 3, after a prefetched gather: nothing has waited for them.
template <class Stage, class F>
void with_gathers_on_their_way(F f) {
  run_ranks(2, [&](Local& local) {
    Watch watch;
    Watched comm(local, watch);
    Sharded<ScheduleFreeAdamW, Stage, Fp32, Watched> optimizer(comm, three_units(), {}, ScheduleFreeAdamW{},
                                                               {.bucket_bytes = 1, .prefetch = 1});
    optimizer.initialize(testing::made_up_weight);
    testing::run_pass(optimizer, 0, comm.rank());
    CHECK(optimizer.step().applied());
    if constexpr (Stage::shards_parameters) static_cast<void>(optimizer.gather(Unit{0}));
    CHECK_FALSE(watch.gathers.all_waited_for());
    f(optimizer, watch.gathers);
  });
}

template <class Stage>
void check_initialize_waits() {
  with_gathers_on_their_way<Stage>([](auto& optimizer, const Gathers& gathers) {
    bool first = true, waited = false;
    optimizer.initialize([&](Tensor, index_t) {
      if (std::exchange(first, false)) waited = gathers.all_waited_for();
      return 1.0f;
    });
    CHECK(waited);
  });
}

template <class Stage>
void check_evaluation_waits() {
  with_gathers_on_their_way<Stage>([](auto& optimizer, Gathers& gathers) {
    const auto sent = gathers.size();
    optimizer.begin_evaluation();
    CHECK(gathers.waited_for(sent));
  });
}

TEST_CASE("initialize writes no weight before all ranks have received the previous weights that they still gather") {
  check_initialize_waits<Stage1>();
  check_initialize_waits<Stage2>();
  check_initialize_waits<Stage3>();
}

TEST_CASE("evaluation swaps no weight before all ranks have received the previous weights that they still gather") {
  check_evaluation_waits<Stage1>();
  check_evaluation_waits<Stage2>();
  check_evaluation_waits<Stage3>();
}

// --- repeated steps -------------------------------------------------------------------------------------------------

// Rank 1 drops each of two steps once, and all ranks repeat them.
template <class Stage>
void check_drops_in_two_steps() {
  run_ranks(2, [](Local& comm) {
    Options options = one_bucket_a_unit;
    options.micro_batches = 2;
    Sharded<Adam, Stage> calm(comm, three_units(), {}, Adam{.lr = 0.1f}, options);
    Sharded<Adam, Stage> shaken(comm, three_units(), {}, Adam{.lr = 0.1f}, options);
    calm.initialize(testing::made_up_weight);
    shaken.initialize(testing::made_up_weight);
    const auto expected = testing::run_steps(calm, comm.rank(), 2, 2, 2).parameters;
    for (int step = 0; step < 2; ++step) {
      testing::run_pass(shaken, step, comm.rank());
      if (comm.rank() == 1)
        shaken.drop_step();
      else
        CHECK_THROWS_AS(
            [&] {
              testing::run_pass(shaken, step, 2 + comm.rank());
              shaken.step();
            }(),
            CommError);
      for (int k = 0; k < 2; ++k) testing::run_pass(shaken, step, 2 * k + comm.rank());
      CHECK(shaken.step().applied());
    }
    CHECK(testing::parameters_of(shaken) == expected);
  });
}

TEST_CASE("a rank that drops two different steps drops each of them, and all ranks repeat both") {
  check_drops_in_two_steps<Stage0>();
  check_drops_in_two_steps<Stage1>();
  check_drops_in_two_steps<Stage2>();
  check_drops_in_two_steps<Stage3>();
}

}  // namespace
}  // namespace tessera
