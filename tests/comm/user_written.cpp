#include <doctest/doctest.h>

#include <chrono>

#include <tessera/tessera.hpp>

#include "needs_workspace.hpp"
#include "page.hpp"
#include "training.hpp"

namespace {

// [communicators.md]
template <class Comm>
class Counting : public tessera::CommunicatorDecorator<Comm> {
 public:
  class Queue : public tessera::QueueDecorator<typename Comm::Queue> {
   public:
    Queue(Comm& comm, std::chrono::nanoseconds timeout, int* count)
        : Queue::QueueDecorator(comm, timeout), count_(count) {}

    template <tessera::CollectiveCall Call>
    auto post(const Call& call, const typename Queue::Event& after = {}) {
      ++*count_;
      return Queue::QueueDecorator::post(call, after);
    }

   private:
    int* count_;
  };

  Counting(Comm comm, int* count) : Counting::CommunicatorDecorator(comm), count_(count) {}

  Queue queue(std::chrono::nanoseconds timeout) { return Queue(this->below(), timeout, count_); }

 private:
  int* count_;
};
// [end]

TEST_CASE("the page shows the communicator that is compiled here") {
  CHECK(tessera::testing::page_shows("docs/communicators.md", "tests/comm/user_written.cpp", "communicators.md"));
}

// The number of collectives that Counting<Comm> counts for a rank in three steps of Stage.
template <class Stage, class Precision, class Comm>
int counted(tessera::Local& local) {
  int count = 0;
  Counting<Comm> comm(Comm(local), &count);
  tessera::Layout layout;
  layout.add_unit("only");
  layout.add_tensor("w", {100});
  tessera::Sharded<tessera::Sgd, Stage, Precision, Counting<Comm>> optimizer(comm, layout, {}, tessera::Sgd{});
  optimizer.initialize(tessera::testing::made_up_weight);
  count = 0;
  tessera::testing::run_steps(optimizer, comm.rank(), 2, 3, 1);
  return count;
}

TEST_CASE("a user's communicator trains and counts every collective") {
  static_assert(tessera::Communicator<Counting<tessera::Local>>);
  tessera::run_ranks(2, [&](tessera::Local& local) {
    // a reduce-scatter, the norm's all-reduce and an all-gather per step
    CHECK(counted<tessera::Stage1, tessera::Fp32, tessera::Local>(local) == 3 * 3);
  });
}

TEST_CASE("a user's communicator forwards the optional members of the one below: workspace, timeline, detach") {
  using Comm = tessera::testing::NeedsWorkspace;
  using Queue = Counting<Comm>::Queue;
  static_assert(tessera::needs_workspace<Counting<Comm>, tessera::bfloat16, float>());
  static_assert(!tessera::needs_workspace<Counting<tessera::Local>, tessera::bfloat16, float>());
  static_assert(tessera::DetachableQueue<Queue> && tessera::TimedQueue<Queue>);
  tessera::run_ranks(2, [&](tessera::Local& local) {
    CHECK(counted<tessera::Stage1, tessera::Fp32, Comm>(local) == 3 * 3);
    CHECK(counted<tessera::Stage3, tessera::Bf16ReduceFp32, Comm>(local) > 0);
  });
}

}  // namespace
