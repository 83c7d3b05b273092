#include <doctest/doctest.h>

#include <tessera/exec/executor.hpp>
#include <tessera/exec/host.hpp>

using namespace tessera;

namespace {

struct NoLoops {
  using Event = HostEvent;
  template <class T>
  using Buffer = HostBuffer<T>;
  template <class T>
  Buffer<T> allocate(index_t);
  index_t allocated_bytes() const;
  Event record() const;
  void wait(const Event&);
};

struct Uncounted : Host {
  void allocated_bytes() const;
};

static_assert(Executor<Host>);
static_assert(!Executor<NoLoops>);
static_assert(!Executor<Uncounted>);
static_assert(!Executor<int>);

}  // namespace

TEST_CASE("what the concept asks for works through it alone") {
  const auto use = []<Executor E>(E executor) {
    auto buffer = executor.template allocate<float>(70);
    float* const x = buffer.span().data();
    executor.for_each(70, [=](index_t i) noexcept { x[i] = 2; });
    ExactSum sum;
    const index_t bad = executor.add_squares(std::span<const float>(x, 70), sum);
    executor.wait(executor.record());
    return bad == -1 ? sum.value() : -1.0;
  };
  CHECK(use(Host{}) == 280);
}
