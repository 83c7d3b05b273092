#include <doctest/doctest.h>

#include <tessera/exec/executor.hpp>
#include <tessera/exec/host.hpp>

#include "page.hpp"

namespace {

// [executors.md]
struct CountingHost : tessera::Host {
  using tessera::Host::Host;

  template <class Body>
  void for_each(tessera::index_t n, Body body) {
    ++loops;
    tessera::Host::for_each(n, body);
  }

  int loops = 0;
};
// [end]

static_assert(tessera::Executor<CountingHost>);

TEST_CASE("the page shows the executor that is compiled here") {
  CHECK(tessera::testing::page_shows("docs/executors.md", "tests/exec/user_written.cpp", "executors.md"));
}

TEST_CASE("a user's executor runs loops and counts them") {
  CountingHost host;
  auto buffer = host.allocate<float>(100);
  float* const values = buffer.span().data();
  host.for_each(100, [=](tessera::index_t i) noexcept { values[i] = static_cast<float>(i); });
  CHECK(host.loops == 1);
  CHECK(values[99] == 99);
  CHECK(host.allocated_bytes() == 400);
}

}  // namespace
