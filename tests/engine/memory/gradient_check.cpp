#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/engine/memory/gradient_check.hpp>
#include <tessera/exec/host.hpp>

namespace tessera::engine {
namespace {

using doctest::Contains;

struct Fixture {
  Host host;
  Sharding sharding;
  std::vector<float> gradients;
  GradientCheck<Host, float> check;

  explicit Fixture(const Layout& layout, bool on = true)
      : sharding(layout, 1, 64),
        gradients(static_cast<std::size_t>(layout.trainable_elements())),
        check(sharding, host, on) {}

  GradientCheck<Host, float>::Array array() { return {sharding, sharding.trainable(), 0, gradients.data()}; }
  void note() {
    for (int b = 0; b < sharding.buckets(); ++b) check.note(b, array());
  }
  void clear(Unit unit) { check.require_unwritten(sharding.bucket_of(unit), array(), unit); }
};

Layout two_units() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {10});
  layout.add_tensor("b", {5});
  layout.add_unit("c");
  layout.add_tensor("frozen", {4}, {.frozen = true});
  layout.add_tensor("w", {10});
  return layout;
}

TEST_CASE("what the caller wrote before clearing is named, only for the unit that is cleared") {
  Fixture f(two_units());
  f.gradients[12] = 7;
  f.note();
  CHECK_NOTHROW(f.clear(Unit{0}));  // written by the library
  f.gradients[13] = 1;
  CHECK_NOTHROW(f.clear(Unit{1}));
  CHECK_THROWS_WITH_AS(f.clear(Unit{0}), Contains("'a.b' was written before backward()"), UsageError);
}

TEST_CASE("a buffer that the caller cleared is accepted like one that it did not change") {
  Fixture f(two_units());
  f.gradients[1] = 7;
  f.note();
  f.gradients[1] = 0;
  CHECK_NOTHROW(f.clear(Unit{0}));
  f.gradients[1] = -0.0f;
  CHECK_NOTHROW(f.clear(Unit{0}));
}

TEST_CASE("content that was forgotten or never recorded is not compared") {
  Fixture f(two_units());
  f.gradients[1] = 7;
  CHECK_NOTHROW(f.clear(Unit{0}));
  f.note();
  f.check.forget();
  f.gradients[1] = 8;
  CHECK_NOTHROW(f.clear(Unit{0}));
  Fixture off(two_units(), false);
  off.note();
  off.gradients[1] = 8;
  CHECK_NOTHROW(off.clear(Unit{0}));
}

TEST_CASE("a flat layout's buckets are compared one by one, and named by their range in the buffer") {
  Fixture f(Layout::flat(200));
  REQUIRE(f.sharding.buckets() > 1);
  f.note();
  f.gradients[130] = 1;
  CHECK_NOTHROW(f.check.require_unwritten(0, f.array(), Unit{0}));
  CHECK_THROWS_WITH_AS(f.check.require_unwritten(2, f.array(), Unit{0}), Contains("'flat.buffer[128...192)'"),
                       UsageError);
}

}  // namespace
}  // namespace tessera::engine
