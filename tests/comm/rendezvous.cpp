#include <doctest/doctest.h>

#include <tessera/comm/rendezvous.hpp>

namespace tessera {
namespace {

TEST_CASE("who is missing is named") {
  List<bool> here(4);
  here[0] = here[2] = here[3] = true;
  CHECK(rendezvous::missing(here) == "rank 1 has");
  here[3] = false;
  CHECK(rendezvous::missing(here) == "ranks 1 and 3 have");
  here[2] = false;
  CHECK(rendezvous::missing(here) == "ranks 1, 2 and 3 have");
}

TEST_CASE("a member that cannot be is refused") {
  CHECK_NOTHROW(rendezvous::Member{.rank = 3, .world = 4}.check());
  CHECK_THROWS_AS((rendezvous::Member{.rank = 4, .world = 4}.check()), OptionError);
  CHECK_THROWS_AS((rendezvous::Member{.rank = -1, .world = 4}.check()), OptionError);
  CHECK_THROWS_AS((rendezvous::Member{.rank = 0, .world = 0}.check()), OptionError);
  CHECK_THROWS_AS((rendezvous::Member{.rank = 0, .world = 1, .timeout = Duration{}}.check()), OptionError);
}

}  // namespace
}  // namespace tessera
