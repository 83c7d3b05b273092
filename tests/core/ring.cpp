#include <doctest/doctest.h>

#include <tessera/core/ring.hpp>

namespace tessera {
namespace {

TEST_CASE("a growing ring keeps its elements and their addresses") {
  core::Ring<int> ring;
  int* first = &ring.at(5, 5);
  for (std::uint64_t s = 5; s < 5 + 9; ++s) ring.at(s, 5) = static_cast<int>(s);
  CHECK(&ring[5] == first);
  for (std::uint64_t s = 5; s < 5 + 9; ++s) CHECK(ring[s] == static_cast<int>(s));
  CHECK(ring.capacity() == 16);
}

TEST_CASE("an element is reused without being reset, and all elements can be visited") {
  core::Ring<int> ring;
  ring.at(1, 0) = 7;
  CHECK(ring.at(3, 2) == 7);
  ring.for_each([](int& each) { each = 1; });
  CHECK(ring[2] + ring[3] == 2);
}

}  // namespace
}  // namespace tessera
