#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include <tessera/engine/gathered_pool.hpp>

namespace tessera {
namespace {

using Pool = GatheredPool<int>;

// A pool, and the buckets that it fetched, in order.
struct Watched {
  Pool pool;
  std::vector<int> fetched{};

  Pool::Slot* look_at(int b) {
    const auto fetch = [&](Pool::Slot& slot) { fetched.push_back(slot.bucket); };
    Pool::Slot* const slot = pool.demand(b, fetch);
    if (slot) {
      ++slot->leases;
      pool.move_to(b, fetch);
    }
    return slot;
  }
  void use(int b) { --look_at(b)->leases; }
  std::vector<int> take() { return std::exchange(fetched, {}); }
};

using Buckets = std::vector<int>;

TEST_CASE("buckets are fetched once each way, ahead of their use") {
  Watched watched{Pool(3, 5, 2)};
  for (int b = 0; b < 5; ++b) watched.use(b);
  CHECK(watched.take() == Buckets{0, 1, 2, 3, 4});
  watched.pool.turn(-1);
  for (int b = 4; b >= 0; --b) watched.use(b);
  CHECK(watched.take() == Buckets{4, 3, 2, 1, 0});
}

TEST_CASE("the window is fetched at once, what lies behind it gives its slot away") {
  Watched watched{Pool(3, 9, 2)};
  watched.use(0);
  CHECK(watched.take() == Buckets{0, 1, 2});
  watched.use(1);
  CHECK(watched.take() == Buckets{3});
}

TEST_CASE("without prefetch a bucket comes when it is asked for") {
  Watched watched{Pool(1, 3, 0)};
  watched.use(1);
  CHECK(watched.take() == Buckets{1});
  watched.use(1);
  CHECK(watched.take() == Buckets{});
  watched.use(2);
  CHECK(watched.take() == Buckets{2});
}

TEST_CASE("what is looked at is never taken: prefetching goes without, asking is refused") {
  Watched watched{Pool(2, 5, 1)};
  Pool::Slot* const first = watched.look_at(0);
  CHECK(watched.take() == Buckets{0, 1});
  Pool::Slot* const second = watched.look_at(1);
  CHECK(watched.take() == Buckets{});  // 2 finds no slot
  CHECK(watched.look_at(3) == nullptr);
  CHECK(first->bucket == 0);
  --second->leases;
  CHECK(watched.look_at(3) == second);
  CHECK(watched.pool.index(*second) == 1);
}

TEST_CASE("a bucket asked for out of turn takes a slot behind the window before one within") {
  Watched watched{Pool(3, 9, 1)};
  for (int b = 0; b < 3; ++b) watched.use(b);
  CHECK(watched.take() == Buckets{0, 1, 2, 3});
  Pool::Slot* const slot = watched.pool.demand(8, [](Pool::Slot&) {});
  for (const Pool::Slot& other : watched.pool)
    if (&other != slot) CHECK((other.bucket == 2 || other.bucket == 3));
}

TEST_CASE("turning keeps what is looked at, dropping keeps nothing but the looks") {
  Watched watched{Pool(2, 4, 1)};
  Pool::Slot* const slot = watched.look_at(0);
  slot->ready = 7;
  watched.pool.turn(-1);
  CHECK(slot->bucket == 0);
  CHECK(watched.pool.end() - watched.pool.begin() == watched.pool.size());
  for (const Pool::Slot& other : watched.pool)
    if (&other != slot) CHECK(other.bucket == -1);
  watched.pool.drop();
  CHECK(slot->bucket == -1);
  CHECK(slot->leases == 1);
  CHECK(slot->ready == 0);
}

}  // namespace
}  // namespace tessera
