#include <doctest/doctest.h>

#include <vector>

#include <tessera/layout/range_set.hpp>

#include "training.hpp"

namespace tessera {
namespace {

TEST_CASE("a set of ranges equals a set of its elements, whatever is added and in which order") {
  constexpr index_t n = 40;
  auto next = [count = std::uint64_t{0}]() mutable { return static_cast<index_t>(testing::hash(5, ++count) % n); };
  int wrong = 0;
  for (int round = 0; round < 200; ++round) {
    layout::RangeSet set;
    std::vector<bool> in(n, false);
    for (int added = 0; added < 8; ++added) {
      const index_t begin = next(), end = min(n, begin + next() / 4);
      set.add({begin, end});
      for (index_t i = begin; i < end; ++i) in[static_cast<std::size_t>(i)] = true;
      for (index_t a = 0; a < n; ++a)
        for (index_t b = a; b <= n; ++b) {
          bool any = false, all = true;
          for (index_t i = a; i < b; ++i) {
            any = any || in[static_cast<std::size_t>(i)];
            all = all && in[static_cast<std::size_t>(i)];
          }
          wrong += set.meets({a, b}) != any || set.contains({a, b}) != all;
        }
    }
    set.clear();
    CHECK_FALSE(set.meets({0, n}));
  }
  CHECK(wrong == 0);
}

TEST_CASE("adjacent ranges are merged") {
  layout::RangeSet set;
  for (const index_t begin : {30, 10, 20, 0}) set.add({begin, begin + 10});
  CHECK(set.ranges() == 1);
  set.add({50, 60});
  set.add({5, 45});
  CHECK(set.ranges() == 2);
  CHECK(set.first_outside(0) == 45);
  CHECK(set.first_outside(47) == 47);
}

}  // namespace
}  // namespace tessera
