#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>

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
static_assert(LeavingQueue<Local::Queue> && LeavingQueue<Recording<Local>::Queue> && !LeavingQueue<Self::Queue>);

// What must not conform.
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
    using Self::Queue::all_gather, Self::Queue::all_reduce, Self::Queue::all_to_all, Self::Queue::broadcast,
        Self::Queue::reduce_scatter;
  };
  Queue queue(std::chrono::nanoseconds) const { return {}; }
};
struct QueueWithoutScale : Self {
  struct Queue : Self::Queue {
    template <class In, class Out>
    Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, Tag tag, const Event& after = {}) {
      return Self::Queue::reduce_scatter(in, out, part, 1, tag, after);
    }
  };
  Queue queue(std::chrono::nanoseconds) const { return {}; }
};
struct AnotherExecutor : Self {
  using Executor = int;
};
static_assert(!Communicator<WithoutRank> && !Communicator<WithoutOrder> && !Communicator<WithoutQueue>);
static_assert(!Communicator<QueueWithoutDrop> && !Communicator<QueueWithoutScale> && !Communicator<AnotherExecutor>);
static_assert(Communicator<AlmostSelf>);

TEST_CASE("a slice is what is left of a part, the last ones short or empty") {
  for (index_t elements : {0, 1, 7, 8, 9, 24})
    for (index_t part : {0, 1, 3, 8}) {
      index_t next = 0;
      for (int r = 0; r < 4; ++r) {
        const Slice slice(elements, part, r);
        CHECK(slice.begin == next);
        CHECK(slice.size <= part);
        next += slice.size;
      }
      CHECK(next == std::min(elements, 4 * part));
    }
}

TEST_CASE("a tag is told with its units, one or the first and the last, of long names the end") {
  CHECK(Tag{"norm of step", 5, 6}.text() == "norm of step 5, pass 6");
  CHECK(Tag{"gradients of bucket", 4, 17, {"body", "body"}}.text() == "gradients of bucket 4, unit 'body', pass 17");
  CHECK(Tag{"gradients of bucket", 4, 17, {"body", "head"}}.text() ==
        "gradients of bucket 4, units 'body' to 'head', pass 17");
  const std::string longest = "encoder.layers.17.self_attention";
  CHECK(UnitNames(longest.substr(1), longest.substr(1)).text() == "unit 'ncoder.layers.17.self_attention'");
  CHECK(UnitNames(longest, longest).text() == "unit '...der.layers.17.self_attention'");
}

TEST_CASE("leaving a queue that cannot tell it from a drop drops") {
  struct Plain {
    int dropped = 0;
    void drop() noexcept { ++dropped; }
  } plain;
  communicator::leave(plain);
  CHECK(plain.dropped == 1);
}

TEST_CASE("collectives and element types have the names that messages use") {
  CHECK(std::string(name(Collective::reduce_scatter)) == "reduce_scatter");
  CHECK(std::string(name(Collective::broadcast)) == "broadcast");
  CHECK(std::string(element_type<bfloat16>().name) == "bfloat16");
  CHECK(element_type<std::uint64_t>().bytes == 8);
}

}  // namespace
}  // namespace tessera
