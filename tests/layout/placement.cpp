#include <doctest/doctest.h>

#include <type_traits>

#include <tessera/layout/placement.hpp>

namespace tessera {
namespace {

template <Placement where>
struct Placed {};

static_assert(Extent::replicated < Extent::group && Extent::group < Extent::world);

TEST_CASE("a placement is a value that a type can depend on, and says whether an array is sharded") {
  CHECK(std::is_same_v<Placed<placement::world>, Placed<Placement{Extent::world}>>);
  CHECK(!std::is_same_v<Placed<placement::world>, Placed<placement::group>>);
  CHECK(!placement::replicated.sharded());
  CHECK(placement::group.sharded());
  CHECK(placement::world.sharded());
  CHECK(Placement{} == placement::replicated);
}

}  // namespace
}  // namespace tessera
