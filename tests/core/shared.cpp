#include <doctest/doctest.h>

#include <thread>
#include <utility>
#include <vector>

#include <tessera/core/shared.hpp>

namespace tessera {
namespace {

struct Counted {
  explicit Counted(int& alive) : alive(alive) { ++alive; }
  Counted(const Counted&) = delete;
  ~Counted() { --alive; }
  int& alive;
  int value = 1;
};

TEST_CASE("the object lives as long as any owner") {
  int alive = 0;
  Shared<Counted> none;
  CHECK_FALSE(none);
  {
    Shared<Counted> first = Shared<Counted>::make(alive);
    none = first;
    CHECK(none == first);
    first->value = 5;
  }
  CHECK(alive == 1);
  CHECK(none->value == 5);
  Shared<Counted> moved = std::move(none);
  CHECK_FALSE(none);
  const Shared<Counted>& same = moved;
  moved = same;
  CHECK(alive == 1);
  moved = {};
  CHECK(alive == 0);
}

TEST_CASE("owners on several threads end it once, and what they did comes before its end") {
  struct Sum {
    explicit Sum(long& total) : total(total) {}
    ~Sum() {
      for (const long part : parts) total += part;
    }
    long& total;
    long parts[4] = {};
  };
  long total = 0;
  {
    std::vector<std::thread> threads;
    const Shared<Sum> sum = Shared<Sum>::make(total);
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([t, mine = sum] {
        for (int i = 0; i < 1000; ++i) {
          const Shared<Sum> copy = mine;
          ++copy->parts[t];
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(total == 4000);
}

}  // namespace
}  // namespace tessera
