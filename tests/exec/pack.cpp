#include <doctest/doctest.h>

#include <tessera/core/bfloat16.hpp>
#include <tessera/exec/pack.hpp>

namespace tessera {
namespace {

using exec::Pack;

TEST_CASE("a pack has the size of its elements, and the alignment of the widest access up to 16 bytes") {
  static_assert(sizeof(Pack<bfloat16, 8>) == 16 && alignof(Pack<bfloat16, 8>) == 16);
  static_assert(sizeof(Pack<float, 8>) == 32 && alignof(Pack<float, 8>) == 16);
  static_assert(sizeof(Pack<bfloat16, 4>) == 8 && alignof(Pack<bfloat16, 4>) == 8);
  static_assert(exec::pack_elements<float> == 4 && exec::pack_elements<bfloat16> == 8);
  alignas(16) const float numbers[8] = {};
  CHECK(exec::aligned<4>(numbers));
  CHECK_FALSE(exec::aligned<4>(numbers + 1));
  CHECK_FALSE(exec::aligned<4>(numbers + 2));
  CHECK(exec::aligned<2>(numbers + 2));
  CHECK(exec::aligned<8>(numbers + 4));
}

}  // namespace
}  // namespace tessera
