#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/engine/memory/gradients.hpp>
#include <tessera/exec/host.hpp>

namespace tessera::engine {
namespace {

Layout units(int count) {
  Layout layout;
  for (int u = 0; u < count; ++u) {
    layout.add_unit("u" + std::to_string(u));
    layout.add_tensor("w", {70});
  }
  return layout;
}

Plan plan_with(const Sharding& sharding, bool sharded) {
  Footprint footprint;
  footprint.gradients = footprint.state = sharded ? placement::world : placement::replicated;
  return layout::make_plan(sharding, {}, footprint);
}

TEST_CASE("replicated gradients are in the flat space, in the caller's buffer") {
  const Sharding sharding(units(2), 1, 1);
  Host host;
  std::vector<float> buffer(sharding.layout().trainable_elements());
  WholeGradients<Host, float> gradients(sharding, 0, host, plan_with(sharding, false), buffer);
  CHECK(gradients.at(1, 0) == buffer.data() + 128);
  CHECK(gradients.at(0, 0) == buffer.data());
  CHECK(host.allocated_bytes() == 0);
}

TEST_CASE("a slot belongs to a bucket until the bucket is sent, and the slot that was sent first is reused first") {
  const Sharding sharding(units(4), 1, 1);
  Host host;
  SlottedGradients<Host, float> gradients(sharding, 0, host, plan_with(sharding, true), {});
  const auto opened = [&](int b) {
    gradients.open(b, Unit{b});
    return gradients.at(b, 0);
  };
  float* const first = opened(3);
  CHECK(opened(3) == first);
  float* const second = opened(2);
  CHECK(second != first);
  CHECK(gradients.at(3, 0) == first);
  gradients.sent(3, {});
  CHECK(gradients.at(3, 0) == nullptr);
  gradients.sent(2, {});
  CHECK(opened(1) == first);
  CHECK(opened(0) == second);
}

TEST_CASE("if all slots wait, another bucket is refused with the names of the buckets that use them") {
  const Sharding sharding(units(3), 1, 1);
  Host host;
  SlottedGradients<Host, float> gradients(sharding, 0, host, plan_with(sharding, true), {});
  gradients.open(0, Unit{0});
  gradients.open(1, Unit{1});
  CHECK_THROWS_WITH_AS(gradients.open(2, Unit{2}), doctest::Contains("gradients('u2')"), UsageError);
  CHECK_THROWS_WITH_AS(gradients.open(2, Unit{2}), doctest::Contains("'u0', 'u1'"), UsageError);
  gradients.drop();
  gradients.open(2, Unit{2});
  CHECK(gradients.at(2, 0) != nullptr);
}

}  // namespace
}  // namespace tessera::engine
