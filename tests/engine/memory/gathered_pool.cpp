#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <tessera/engine/memory/gathered_pool.hpp>
#include <tessera/layout/plan.hpp>

namespace tessera::engine {
namespace {

using Pool = GatheredPool<int>;
using Buckets = std::vector<int>;

// Units of 64 elements, one per bucket. The last unit is tied to the first, or to the first two.
Sharding buckets(int count, int ties = 0) {
  Layout layout;
  for (int u = 0; u < count; ++u) {
    layout.add_unit("u" + std::to_string(u));
    layout.add_tensor("w", {64});
  }
  for (int owner = 0; owner < ties; ++owner) layout.tie(Unit{count - 1}, Unit{owner});
  return Sharding(layout, 1, 1);
}

index_t slots_of(const Sharding& sharding, int prefetch) {
  const Footprint stage3{.parameters = placement::world, .gradients = placement::world, .state = placement::world};
  return layout::make_plan(sharding, {.prefetch = prefetch}, stage3).gathered_buckets.copies;
}

// A rank's pool, its posted gathers, and the content of its slots.
struct Rank {
  struct Post {
    int bucket;
    index_t slot;
    friend bool operator==(const Post&, const Post&) = default;
  };
  struct Lease {
    index_t slot;
    int bucket;
    int calls_left;
  };

  Pool pool;
  std::vector<Post> posts{};
  std::vector<int> memory{};  // by slot
  std::vector<Lease> leases{};
  bool in_order = true;  // no gather was posted to a slot in use, and every requested bucket was in memory

  Rank(const Sharding& sharding, int prefetch)
      : pool(sharding, slots_of(sharding, prefetch), prefetch),
        memory(static_cast<std::size_t>(pool.end() - pool.begin()), -1) {}

  int& lies_in(const Pool::Slot& slot) { return memory[static_cast<std::size_t>(pool.index(slot))]; }
  auto poster() {
    return [this](Pool::Slot& slot) {
      in_order &= slot.leases == 0;
      posts.push_back({slot.bucket, pool.index(slot)});
      lies_in(slot) = slot.bucket;
    };
  }

  // The Weights are held until `calls` further calls have ended, at least until this one has.
  void gather(int b, int calls = 0) {
    Pool::Slot& slot = pool.gather(Unit{b}, poster());
    in_order &= lies_in(slot) == b && slot.bucket == b && !slot.pending;
    ++slot.leases;
    leases.push_back({pool.index(slot), b, calls + 1});
  }
  void update() {
    pool.post_all(poster());
    pool.expire();
  }
  void end_call(bool of_all = false) {
    std::erase_if(leases, [&](Lease& lease) {
      Pool::Slot& slot = pool.begin()[lease.slot];
      in_order &= lies_in(slot) == lease.bucket;
      if (--lease.calls_left > 0 && !of_all) return false;
      --slot.leases;
      return true;
    });
  }
  void use(int b) {
    gather(b);
    end_call();
  }
  Buckets take() {
    Buckets gathered;
    for (const Post& post : std::exchange(posts, {})) gathered.push_back(post.bucket);
    return gathered;
  }
};

TEST_CASE("buckets are prefetched, and those in memory at the turn are not gathered again") {
  const Sharding sharding = buckets(5);
  Rank rank(sharding, 1);
  for (int b = 0; b < 5; ++b) rank.use(b);
  CHECK(rank.take() == Buckets{0, 1, 2, 3, 4});
  rank.pool.set_direction(-1);
  for (int b = 4; b >= 0; --b) rank.use(b);
  CHECK(rank.take() == Buckets{2, 1, 0});
  rank.pool.set_direction(1);
  for (int b = 0; b < 5; ++b) rank.use(b);
  CHECK(rank.take() == Buckets{2, 3, 4});
  rank.update();
  rank.use(0);
  CHECK(rank.take() == Buckets{0, 1});
}

TEST_CASE("the whole window is gathered at once, into the slots that become free") {
  const Sharding sharding = buckets(9);
  Rank rank(sharding, 2);
  rank.use(0);
  CHECK(rank.take() == Buckets{0, 1, 2});
  rank.use(1);
  CHECK(rank.take() == Buckets{3});
  CHECK(rank.memory == Buckets{3, 1, 2});
}

TEST_CASE("without prefetch a bucket is gathered when it is requested") {
  const Sharding sharding = buckets(3);
  Rank rank(sharding, 0);
  rank.use(1);
  CHECK(rank.take() == Buckets{1});
  rank.use(1);
  CHECK(rank.take() == Buckets{});
  rank.use(2);
  CHECK(rank.take() == Buckets{2});
}

TEST_CASE("a pass gathers each bucket once, and at every turn all but those in the slots; a tied bucket stays") {
  for (int count = 1; count <= 9; ++count)
    for (int ties = 0; ties <= std::min(2, count - 1); ++ties)
      for (int prefetch = 0; prefetch <= 4; ++prefetch) {
        CAPTURE(count);
        CAPTURE(ties);
        CAPTURE(prefetch);
        const Sharding sharding = buckets(count, ties);
        const index_t saved = std::min(count, 1 + prefetch + ties);
        REQUIRE(slots_of(sharding, prefetch) == saved);
        Rank rank(sharding, prefetch);
        const auto use = [&](int b) {
          rank.use(b);
          for (int owner = 0; b == count - 1 && owner < ties; ++owner) rank.use(owner);
        };
        for (int step = 0; step < 2; ++step) {
          for (int pass = 0; pass < 3; ++pass) {
            for (int b = 0; b < count; ++b) use(b);
            rank.pool.set_direction(-1);
            for (int b = count - 1; b >= 0; --b) use(b);
            rank.pool.set_direction(1);
          }
          rank.update();
          CHECK(std::ssize(rank.take()) == count + 5 * (count - saved));
        }
      }
}

TEST_CASE("a prefetch whose slot is in use is posted by the first call that finds it free, before later gathers") {
  const Sharding sharding = buckets(5);
  Rank rank(sharding, 2);
  rank.gather(0, 2);
  rank.end_call();
  CHECK(rank.take() == Buckets{0, 1, 2});
  rank.use(1);
  CHECK(rank.take() == Buckets{});  // 3, which needs the slot of 0
  rank.use(2);
  CHECK(rank.take() == Buckets{});  // 4, whose slot is free, comes after 3
  rank.use(3);
  CHECK(rank.take() == Buckets{3, 4});
}

TEST_CASE("a gather that cannot wait is refused, posts nothing and changes nothing") {
  const Sharding sharding = buckets(5);
  Rank rank(sharding, 1);
  rank.gather(0, 9);
  rank.gather(1, 9);
  CHECK(rank.take() == Buckets{0, 1});
  for (int again = 0; again < 2; ++again)
    CHECK_THROWS_WITH_AS(rank.gather(2),
                         "gather('u2'): the slot that it needs still holds 'u0', whose Weights are alive: release "
                         "earlier Weights or raise Options::prefetch",
                         UsageError);
  CHECK_THROWS_WITH_AS(rank.update(),
                       "the gather of 'u2', which is prefetched, needs the slot of 'u0', whose Weights are alive: "
                       "release them first",
                       UsageError);
  CHECK(rank.take() == Buckets{});
  rank.gather(1, 9);  // in memory already
  rank.end_call(true);
  rank.gather(2);
  CHECK(rank.take() == Buckets{2, 3});
  CHECK(rank.in_order);
}

TEST_CASE("a bucket of several units is named by the first and the last of them") {
  Layout layout;
  for (const char* name : {"a", "b", "c", "d"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});
  }
  const Sharding sharding(layout, 1, 128);
  REQUIRE(sharding.buckets() == 2);
  Pool pool(sharding, 1, 0);
  pool.gather(Unit{1}, [](Pool::Slot&) {}).leases = 1;
  CHECK_THROWS_WITH_AS(pool.gather(Unit{2}, [](Pool::Slot&) {}),
                       doctest::Contains("gather('c'): the slot that it needs still holds units 'a' to 'b'"),
                       UsageError);
}

TEST_CASE("Weights that are held for as many further gathers as prefetch allows never block a gather") {
  for (int count = 1; count <= 7; ++count)
    for (int ties = 0; ties <= std::min(1, count - 1); ++ties)
      for (int prefetch = 0; prefetch <= 3; ++prefetch) {
        const Sharding sharding = buckets(count, ties);
        const int kept = std::min(prefetch, count - 1);  // the update invalidates all weights
        Rank rank(sharding, prefetch);
        const auto use = [&](int b) {
          rank.gather(b, kept);
          if (ties && b == count - 1) rank.gather(0, kept);
          rank.end_call();
        };
        for (int step = 0; step < 2; ++step) {
          for (int pass = 0; pass < 2; ++pass) {
            for (int b = 0; b < count; ++b) use(b);
            rank.pool.set_direction(-1);
            for (int b = count - 1; b >= 0; --b) use(b);
            rank.pool.set_direction(1);
          }
          rank.update();
        }
        CHECK(rank.in_order);
      }
}

TEST_CASE("a tied unit and the unit that uses it have a slot each, whichever is requested first") {
  for (int prefetch = 0; prefetch <= 2; ++prefetch)
    for (const bool owner_first : {false, true}) {
      const Sharding sharding = buckets(7, 1);
      Rank rank(sharding, prefetch);
      for (int direction : {1, -1}) {
        rank.pool.set_direction(direction);
        for (int i = 0; i < 7; ++i) {
          const int b = direction > 0 ? i : 6 - i;
          if (owner_first && b == 6) rank.gather(0);
          rank.gather(b);
          if (!owner_first && b == 6) rank.gather(0);
          rank.end_call();
        }
      }
      CHECK(rank.in_order);
    }
}

// A call of the user, the same on all ranks. Ranks may differ in how long they hold Weights.
struct Call {
  enum Kind { gather, forward, backward, update } kind = gather;
  int unit = 0;
};

void call(Rank& rank, Call c, int calls = 0) {
  switch (c.kind) {
    case Call::gather: rank.gather(c.unit, calls); break;
    case Call::forward: rank.pool.set_direction(1); break;
    case Call::backward: rank.pool.set_direction(-1); break;
    case Call::update: rank.update(); break;
  }
}

// Makes the call on a rank that holds Weights and on one that holds none. Returns whether both post the same gathers,
// up to those that must still wait. If the call is refused, all Weights are released and the call is repeated.
bool same_posts(Rank& keeps, Rank& none, Call c, int calls) {
  call(none, c);
  none.end_call();
  try {
    call(keeps, c, calls);
  } catch (const UsageError&) {
    keeps.end_call(true);
    call(keeps, c, calls);
  }
  keeps.end_call();
  return keeps.in_order && none.in_order && keeps.posts.size() <= none.posts.size() &&
         std::equal(keeps.posts.begin(), keeps.posts.end(), none.posts.begin());
}

bool same_in_the_end(Rank keeps, Rank none) {
  keeps.end_call(true);
  keeps.update();
  none.update();
  return keeps.posts == none.posts;
}

// Every sequence of calls from here on, and every choice of lifetimes.
index_t check_all(const Rank& keeps, const Rank& none, int units, const std::vector<int>& lifetimes, int length) {
  if (length == 0) {
    if (!same_in_the_end(keeps, none)) FAIL_CHECK("gathers differ in the end");
    return 1;
  }
  index_t checked = 0;
  const auto go_on = [&](Call c, int calls) {
    Rank next_keeps = keeps, next_none = none;
    if (!same_posts(next_keeps, next_none, c, calls)) FAIL_CHECK("gathers differ");
    checked += check_all(next_keeps, next_none, units, lifetimes, length - 1);
  };
  for (int u = 0; u < units; ++u)
    for (const int calls : lifetimes) go_on({Call::gather, u}, calls);
  for (const auto kind : {Call::forward, Call::backward, Call::update}) go_on({kind}, 0);
  return checked;
}

TEST_CASE("the gathers, their order and their slots do not depend on how long Weights are held") {
  constexpr int ever = 99;
#ifdef TESSERA_FEW_POLICIES
  constexpr int length = 3;  // a sanitizer makes each call twenty times as slow
#else
  constexpr int length = 4;
#endif
  const auto power = [](index_t base, int n) {
    index_t all = 1;
    for (int k = 0; k < n; ++k) all *= base;
    return all;
  };
  for (int prefetch = 0; prefetch <= 2; ++prefetch) {
    const Sharding three = buckets(3), four = buckets(4), tied = buckets(4, 1);
    if (prefetch == 1)
      CHECK(check_all(Rank(three, prefetch), Rank(three, prefetch), 3, {0, 1, ever}, length + 1) == power(12, length + 1));
    CHECK(check_all(Rank(four, prefetch), Rank(four, prefetch), 4, {0, 2, ever}, length) == power(15, length));
    CHECK(check_all(Rank(tied, prefetch), Rank(tied, prefetch), 4, {0, 2, ever}, length) == power(15, length));
  }
}

TEST_CASE("the same holds in long runs that are mostly in order, with ties and units out of order") {
  std::mt19937 random(1);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int run = 0; run < 2000; ++run) {
    const int units = 2 + below(7), ties = below(std::min(3, units));
    const int prefetch = below(4);
    const Sharding sharding = buckets(units, ties);
    Rank keeps(sharding, prefetch), none(sharding, prefetch);
    int at = -1, direction = 1;
    for (int k = 0; k < 60; ++k) {
      Call c;
      const int dice = below(20);
      if (dice == 0) {
        c = {Call::gather, below(units)};
      } else if (dice == 1) {
        c = {Call::update};
      } else if (at + direction < 0 || at + direction >= units || dice == 2) {
        direction = -direction;
        at += at < 0 || at >= units ? 0 : -direction;
        c = {direction > 0 ? Call::forward : Call::backward};
      } else {
        c = {Call::gather, at += direction};
      }
      REQUIRE(same_posts(keeps, none, c, below(3) == 0 ? below(6) : 0));
    }
    REQUIRE(same_in_the_end(keeps, none));
  }
}

TEST_CASE("after a drop ranks agree again, wherever each was; Weights in use keep their slot") {
  const Sharding sharding = buckets(6, 1);
  for (int far = 0; far <= 6; ++far) {
    Rank one(sharding, 1), other(sharding, 1);
    for (int b = 0; b < far; ++b) one.use(b);
    if (far == 3) one.pool.set_direction(-1);
    one.pool.drop();
    other.pool.drop();
    one.posts.clear();
    for (const int b : {0, 1, 2, 5, 0, 3}) one.use(b), other.use(b);
    CHECK(one.posts == other.posts);
  }
  Rank rank(sharding, 1);
  rank.gather(0, 9);
  rank.pool.begin()->ready = 7;
  rank.pool.drop();
  CHECK(rank.pool.begin()->leases == 1);
  CHECK(rank.pool.begin()->ready == 0);
  CHECK_THROWS_WITH_AS(rank.gather(1), doctest::Contains("still holds 'u0'"), UsageError);
}

}  // namespace
}  // namespace tessera::engine
