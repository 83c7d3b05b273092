#include <doctest/doctest.h>

#include <chrono>

#include <tessera/tessera.hpp>

#include "page.hpp"
#include "training.hpp"

namespace {

// [communicators.md]
template <class Comm>
class Counting {
 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = Comm::ordered;

  Counting(Comm comm, int* count) : comm_(comm), count_(count) {}

  class Queue {
   public:
    Queue(const Counting& counting, std::chrono::nanoseconds timeout)
        : queue_(Comm(counting.comm_).queue(timeout)), count_(counting.count_) {}

    auto reduce_scatter(auto in, auto out, auto... rest) { return ++*count_, queue_.reduce_scatter(in, out, rest...); }
    auto all_gather(auto in, auto out, auto... rest) { return ++*count_, queue_.all_gather(in, out, rest...); }
    auto all_reduce(auto inout, auto... rest) { return ++*count_, queue_.all_reduce(inout, rest...); }
    auto all_to_all(auto in, auto out, auto... rest) { return ++*count_, queue_.all_to_all(in, out, rest...); }
    auto broadcast(auto inout, auto... rest) { return ++*count_, queue_.broadcast(inout, rest...); }
    void drop() noexcept { queue_.drop(); }
    void leave() noexcept { tessera::communicator::leave(queue_); }

   private:
    typename Comm::Queue queue_;
    int* count_;
  };

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Executor executor() const { return comm_.executor(); }
  Queue queue(std::chrono::nanoseconds timeout) const { return Queue(*this, timeout); }

 private:
  Comm comm_;
  int* count_;
};
// [end]

TEST_CASE("the page shows the communicator that is compiled here") {
  CHECK(tessera::testing::page_shows("docs/communicators.md", "tests/comm/user_written.cpp", "communicators.md"));
}

TEST_CASE("a user's communicator trains and sees every collective") {
  static_assert(tessera::Communicator<Counting<tessera::Local>>);
  tessera::run_ranks(2, [&](tessera::Local& local) {
    int count = 0;
    Counting<tessera::Local> comm(local, &count);
    tessera::Layout layout;
    layout.add_unit("only");
    layout.add_tensor("w", {100});
    tessera::Sharded<tessera::Sgd, tessera::Stage1, tessera::Fp32, Counting<tessera::Local>> optimizer(comm, layout, {},
                                                                                                       tessera::Sgd{});
    optimizer.initialize(tessera::testing::made_up_weight);
    count = 0;
    tessera::testing::run_steps(optimizer, comm.rank(), 2, 3, 1);
    CHECK(count == 3 * 3);  // a reduce-scatter, the norm's all-reduce and an all-gather a step
  });
}

}  // namespace
