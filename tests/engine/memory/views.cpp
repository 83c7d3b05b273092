#include <doctest/doctest.h>

#include <numeric>
#include <vector>

#include <tessera/engine/memory/views.hpp>

namespace tessera::engine {
namespace {

struct Fixture {
  Layout layout;
  Unit unit = layout.add_unit("u");
  Tensor a = layout.add_tensor("a", {3});
  Tensor frozen = layout.add_tensor("frozen", {2}, {.frozen = true});
  Tensor b = layout.add_tensor("b", {2});
  Tensor nothing = layout.add_tensor("nothing", {0}, {.frozen = true});
  Unit other = layout.add_unit("other");
  Tensor c = layout.add_tensor("c", {1});
  std::vector<float> trainable = std::vector<float>{0, 1, 2, 3, 4}, still = std::vector<float>{10, 11};
};

TEST_CASE("each tensor of a unit is a span of its own elements") {
  Fixture f;
  const UnitView<const float> view(f.layout, f.unit, f.trainable.data(), f.still.data());
  CHECK(view[f.a].size() == 3);
  CHECK(view[f.b][0] == 3);
  CHECK(view[f.b].size() == 2);
  CHECK(view[f.frozen][1] == 11);
  CHECK(view[f.nothing].empty());
  CHECK(view.trainable().size() == 5);
}

TEST_CASE("a view begins at its unit, wherever the unit is in the flat space") {
  Fixture f;
  REQUIRE(f.layout.offset(f.c) == 64);
  const UnitView<const float> view(f.layout, f.other, f.trainable.data(), f.still.data());
  CHECK(view[f.c].data() == f.trainable.data());
}

TEST_CASE("a tensor of another unit and the gradients of a frozen tensor are refused by name") {
  Fixture f;
  const UnitView<float> gradients(f.layout, f.unit, f.trainable.data(), nullptr);
  gradients[f.a][0] = 7;
  CHECK(f.trainable[0] == 7);
  CHECK_THROWS_WITH_AS(gradients[f.c], doctest::Contains("'other.c' is not of unit 'u'"), UsageError);
  CHECK_THROWS_WITH_AS(gradients[f.frozen], doctest::Contains("'u.frozen' is frozen"), UsageError);
}

TEST_CASE("a lease is counted once while Weights exist, also if they are moved") {
  Fixture f;
  int leases = 0;
  {
    Weights<float> first({f.layout, f.unit, f.trainable.data(), f.still.data()}, &leases);
    CHECK(leases == 1);
    const Weights<float> second(std::move(first));
    CHECK(leases == 1);
    CHECK(second[f.a][1] == 1);
  }
  CHECK(leases == 0);
}

}  // namespace
}  // namespace tessera::engine
