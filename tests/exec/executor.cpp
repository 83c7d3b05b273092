#include <doctest/doctest.h>

#include <array>

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

static_assert(Executor<Host> && !StreamExecutor<Host>);
static_assert(!Executor<NoLoops>);
static_assert(!Executor<Uncounted>);
static_assert(!Executor<int>);

}  // namespace

TEST_CASE("every operation of the concept works on a type that has nothing else") {
  const auto use = []<Executor E>(E executor) {
    auto buffer = executor.template allocate<float>(70);
    float* const x = buffer.span().data();
    executor.for_each(70, [=](index_t i) noexcept { x[i] = 2; });
    auto sums = executor.template allocate<SquareSum>(1);
    executor.upload(sums.span(), std::array{SquareSum{}}.data());
    executor.add_squares(std::span<const float>(x, 70), 5, sums.span().data());
    executor.wait(executor.record());
    const SquareSum sum = executor.read_back(static_cast<const SquareSum*>(sums.span().data())).get();
    return sum.first_non_finite == SquareSum::none ? sum.squares.value() : -1.0;
  };
  CHECK(use(Host{}) == 280);
}

namespace {

// Adds a number in memory if a flag in memory is set.
struct AddWhatLiesThere {
  const float* amount;
  const float* wanted;
  float* to;

  bool enabled() const noexcept { return *wanted > 0; }
  auto bind() const noexcept {
    return [amount = *amount, to = to](index_t i) noexcept { to[i] += amount; };
  }
};
static_assert(LateBoundBody<AddWhatLiesThere>);

}  // namespace

TEST_CASE("a late-bound body is bound when the loop runs, and a disabled body does not run") {
  Host host;
  auto buffer = host.allocate<float>(12);
  float* const x = buffer.span().data();
  const AddWhatLiesThere body{x + 10, x + 11, x};
  x[10] = 3;
  host.for_each(10, body);
  CHECK(x[9] == 0);
  x[11] = 1;
  host.for_each(10, body);
  CHECK(x[0] == 3);
  CHECK(x[9] == 3);
}

TEST_CASE("from_host computes the host's numbers in order, each with its index") {
  Host host;
  auto buffer = host.allocate<float>(5);
  float* const x = buffer.span().data();
  int asked = 0;
  host.from_host(
      5, [&](index_t) { return ++asked; }, [=](index_t i, float value) noexcept { x[i] = value; });
  CHECK(asked == 5);
  CHECK(x[0] == 1);
  CHECK(x[4] == 5);
}
