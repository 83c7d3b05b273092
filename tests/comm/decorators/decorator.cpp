#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/comm/decorators/decorator.hpp>
#include <tessera/comm/local/local.hpp>
#include <tessera/comm/self.hpp>

#include "native.hpp"
#include "needs_workspace.hpp"

namespace tessera {
namespace {

// A decorator that changes nothing, and one that intercepts single calls but not spans of calls.
template <class Comm>
struct Plain : CommunicatorDecorator<Comm> {
  using Queue = QueueDecorator<typename Comm::Queue>;
  using CommunicatorDecorator<Comm>::CommunicatorDecorator;
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(this->below(), timeout); }
};
template <class Below>
struct Seeing : QueueDecorator<Below> {
  using QueueDecorator<Below>::QueueDecorator;
  std::vector<std::string> seen;

  template <CollectiveCall Call>
  HostEvent post(const Call& call, const HostEvent& after = {}) {
    seen.push_back(call.tag.text());
    return QueueDecorator<Below>::post(call, after);
  }
};

// A queue that takes one kind of call and can wait for streams.
struct Gathers {
  using Event = HostEvent;
  int joined = 0;
  HostEvent post(const AllGather<float>&, const HostEvent&) { return {}; }
  void join(int stream) { joined += stream; }
  void drop() noexcept {}
};
struct GathersOnly {
  Gathers queue(std::chrono::nanoseconds) { return {}; }
};

static_assert(Communicator<Plain<Self>> && Communicator<Plain<Local>> && Communicator<Plain<Plain<Local>>>);
static_assert(Plain<Local>::ordered && !Plain<testing::Native>::ordered);
static_assert(!needs_workspace<Plain<Local>, bfloat16, float>());
static_assert(needs_workspace<Plain<testing::NeedsWorkspace>, bfloat16, float>());
static_assert(!needs_workspace<Plain<testing::NeedsWorkspace>, bfloat16, bfloat16>());

// A decorated queue has no optional member that the queue below lacks.
static_assert(TimedQueue<Plain<Local>::Queue> && !TimedQueue<Plain<Self>::Queue>);
static_assert(GroupingQueue<Plain<Local>::Queue, AllGather<float>> &&
              !GroupingQueue<QueueDecorator<Gathers>, AllGather<float>>);
static_assert(Posts<QueueDecorator<Gathers>, AllGather<float>> && !Posts<QueueDecorator<Gathers>, AllReduce<float>>);
static_assert(StreamJoiningQueue<QueueDecorator<Gathers>, int> && !StreamJoiningQueue<Plain<Self>::Queue, int>);

TEST_CASE("a decorator that changes nothing has the results of the communicator below") {
  run_ranks(2, [](Local& local) {
    Plain<Local> comm(local);
    CHECK(comm.rank() == local.rank());
    CHECK(comm.size() == 2);
    auto queue = comm.queue(std::chrono::seconds(30));
    float x[] = {1, 2};
    const std::vector<AllReduce<float>> calls{{std::span(x, 1), {"x", 0, 0}}, {std::span(x + 1, 1), {"x", 1, 0}}};
    queue.post(std::span<const AllReduce<float>>(calls)).wait();
    CHECK(x[0] == 2);
    CHECK(x[1] == 4);
    queue.drop();
    queue.post(calls[0]).wait();
    CHECK(x[0] == 4);
  });
}

TEST_CASE("detach through a decorator detaches from the queue below") {
  run_ranks(2, [](Local& local) {
    Plain<Local> comm(local);
    auto queue = comm.queue(std::chrono::seconds(30));
    float x = 1;
    if (comm.rank() == 1) return queue.detach();
    CHECK_THROWS_WITH_AS(queue.post(AllReduce(std::span(&x, 1), {"x", 0, 0})).wait(),
                         doctest::Contains("rank 1 has left and does not join all_reduce"), CommError);
  });
}

TEST_CASE("a decorator that intercepts single calls gets a span of them one by one") {
  Self self;
  Seeing<Self::Queue> queue(self, std::chrono::seconds(1));
  float x = 1;
  const std::vector<AllReduce<float>> calls{{std::span(&x, 1), {"x", 0, 0}}, {std::span(&x, 1), {"x", 1, 0}}};
  communicator::post(queue, std::span<const AllReduce<float>>(calls)).wait();
  CHECK(queue.seen == std::vector<std::string>{"x 0, pass 0", "x 1, pass 0"});
}

TEST_CASE("join with a stream is forwarded") {
  GathersOnly comm;
  struct Shown : QueueDecorator<Gathers> {
    using QueueDecorator::below, QueueDecorator::QueueDecorator;
  } queue(comm, std::chrono::seconds(1));
  queue.join(3);
  CHECK(queue.below().joined == 3);
}

}  // namespace
}  // namespace tessera
