#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/local/local.hpp>
#include <tessera/comm/decorators/recording.hpp>
#include <tessera/comm/self.hpp>

namespace tessera {
namespace {

static_assert(Communicator<Self> && Communicator<Local> && Communicator<Recording<Self>> &&
              Communicator<Recording<Local>>);
static_assert(Self::ordered && Local::ordered && Recording<Local>::ordered);
static_assert(!std::movable<Local::Queue>);
static_assert(DetachableQueue<Local::Queue> && DetachableQueue<Recording<Local>::Queue> &&
              !DetachableQueue<Self::Queue>);

// Types that must not satisfy the concept.
static_assert(!Communicator<int> && !Communicator<Host> && !Communicator<Local::Queue>);

struct WithoutRank : private Self {
  using Self::Executor, Self::Queue, Self::ordered, Self::size, Self::executor, Self::queue;
};
struct WithoutOrder : private Self {
  using Self::Executor, Self::Queue, Self::rank, Self::size, Self::executor, Self::queue;
};
struct WithoutQueue : private Self {
  using Self::Executor, Self::Queue, Self::ordered, Self::rank, Self::size, Self::executor;
};
struct AlmostSelf : Self {};
struct QueueWithoutDrop : Self {
  struct Queue : private Self::Queue {
    using Self::Queue::Event, Self::Queue::post;
  };
  Queue queue(std::chrono::nanoseconds) const { return {}; }
};
struct QueueWithoutSums : Self {
  struct Queue : Self::Queue {
    template <class Call>
    requires(Call::kind != Collective::reduce_scatter) Event post(const Call& call, const Event& after = {}) {
      return Self::Queue::post(call, after);
    }
  };
  Queue queue(std::chrono::nanoseconds) const { return {}; }
};
// A queue without the collectives that the library does not call.
struct QueueOfFewCalls : Self {
  struct Queue : Self::Queue {
    template <class Call>
    requires(Call::kind != Collective::all_to_all && Call::kind != Collective::broadcast) Event
        post(const Call& call, const Event& after = {}) {
      return Self::Queue::post(call, after);
    }
  };
  Queue queue(std::chrono::nanoseconds) const { return {}; }
};
struct AnotherExecutor : Self {
  using Executor = int;
};
static_assert(!Communicator<WithoutRank> && !Communicator<WithoutOrder> && !Communicator<WithoutQueue>);
static_assert(!Communicator<QueueWithoutDrop> && !Communicator<QueueWithoutSums> && !Communicator<AnotherExecutor>);
static_assert(Communicator<AlmostSelf> && Communicator<QueueOfFewCalls>);
static_assert(!Posts<QueueOfFewCalls::Queue, AllToAll<float>> && Posts<Self::Queue, AllToAll<float>>);
static_assert(!Posts<Self::Queue, int> && !Posts<Self::Queue, Piece<float>>);
static_assert(GroupingQueue<Local::Queue, AllGather<float>> &&
              !GroupingQueue<QueueOfFewCalls::Queue, AllGather<float>>);

TEST_CASE("detach() drops on a queue that has no detach") {
  struct Plain {
    int dropped = 0;
    void drop() noexcept { ++dropped; }
  } plain;
  communicator::detach(plain);
  CHECK(plain.dropped == 1);
}

// Records the order of the calls of a queue.
struct Noted {
  using Event = HostEvent;
  std::vector<index_t> posted;
  template <class T>
  Event post(const AllGather<T>& call, const Event&) {
    posted.push_back(call.tag.index);
    return {};
  }
};

TEST_CASE("a queue that cannot post several calls as one gets them one by one") {
  Noted noted;
  const float x = 1;
  float y = 0;
  std::vector<AllGather<float>> calls;
  for (index_t i = 0; i < 3; ++i) calls.emplace_back(std::span(&x, 1), std::span(&y, 1), 1, Tag{"x", i, 0});
  communicator::post(noted, std::span<const AllGather<float>>(calls));
  CHECK(noted.posted == std::vector<index_t>{0, 1, 2});
}

// Its events are the numbers of its calls.
struct Numbered {
  using Event = int;
  int posted = 0;
  std::vector<int> after;
  Event post(const AllGather<float>&, Event event) {
    after.push_back(event);
    return ++posted;
  }
};

TEST_CASE("calls posted one by one start after the event, and have the event of the last") {
  Numbered queue;
  const std::vector<AllGather<float>> calls(3, AllGather<float>(std::span<const float>{}, {}, 0, Tag{}));
  CHECK(communicator::post(queue, std::span<const AllGather<float>>(calls), -5) == 3);
  CHECK(queue.after.front() == -5);
  CHECK(communicator::post(queue, std::span<const AllGather<float>>{}, -5) == -5);
}

TEST_CASE("by default no reduction needs a workspace") {
  CHECK_FALSE(needs_workspace<Self, float, float>());
  CHECK_FALSE(needs_workspace<Recording<Local>, bfloat16, float>());
}

}  // namespace
}  // namespace tessera
