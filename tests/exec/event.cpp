#include <doctest/doctest.h>

#include <tessera/core/error.hpp>
#include <tessera/exec/event.hpp>

using namespace tessera;

namespace {

struct Tickets final : Completion {
  std::uint64_t finished = 0;
  bool done(std::uint64_t ticket) const noexcept override { return ticket <= finished; }
  void wait(std::uint64_t ticket) override {
    if (!done(ticket)) throw CommError("nobody finishes ticket " + std::to_string(ticket));
  }
};

}  // namespace

TEST_CASE("a default-constructed event is complete") {
  CHECK(HostEvent{}.done());
  CHECK_NOTHROW(HostEvent{}.wait());
}

TEST_CASE("an event is complete when its queue has reached its ticket, for every copy") {
  Tickets queue;
  const HostEvent event(queue, 2);
  const HostEvent copy = event;
  queue.finished = 1;
  CHECK_FALSE(event.done());
  CHECK_THROWS_AS(copy.wait(), CommError);
  queue.finished = 2;
  CHECK(event.done());
  CHECK_NOTHROW(copy.wait());
}
