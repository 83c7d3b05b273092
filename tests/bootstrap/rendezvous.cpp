#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <tessera/bootstrap/rendezvous.hpp>

namespace tessera {
namespace {

TEST_CASE("missing ranks are named") {
  std::vector<char> here(4);
  here[0] = here[2] = here[3] = true;
  CHECK(rendezvous::missing(here) == "rank 1 has");
  here[3] = false;
  CHECK(rendezvous::missing(here) == "ranks 1 and 3 have");
  here[2] = false;
  CHECK(rendezvous::missing(here) == "ranks 1, 2 and 3 have");
}

TEST_CASE("of many missing ranks the first are named and the others counted") {
  std::vector<char> here(1'000'001);
  here[0] = true;
  CHECK(rendezvous::missing(here) == "ranks 1, 2, 3, 4, 5, 6, 7, 8 and 999992 others have");
  std::vector<char> nine(10);
  nine[4] = true;
  CHECK(rendezvous::missing(nine) == "ranks 0, 1, 2, 3, 5, 6, 7, 8 and 1 other have");
  nine[9] = true;
  CHECK(rendezvous::missing(nine) == "ranks 0, 1, 2, 3, 5, 6, 7 and 8 have");
}

TEST_CASE("a timeout names the ranks that never arrived, or else those that left") {
  std::vector<char> came(3), here(3), all(3);
  came[0] = came[1] = here[0] = true;
  all.assign(all.size(), true);
  CHECK(rendezvous::missing(all) == "");
  CHECK(rendezvous::time_is_up(came, here, "the file f", std::chrono::seconds(2)) ==
        "rank 2 has not reached the file f within 2 s");
  CHECK(rendezvous::time_is_up(all, here, "the file f", std::chrono::seconds(2)) ==
        "ranks 1 and 2 have reached the file f and left again before all ranks were there, within 2 s: give all ranks "
        "the same timeout, and read the errors of those that left");
}

TEST_CASE("a rank, world size or timeout that is not valid is refused") {
  CHECK_NOTHROW(rendezvous::Member{.rank = 3, .world = 4}.validate());
  CHECK_THROWS_AS((rendezvous::Member{.rank = 4, .world = 4}.validate()), OptionError);
  CHECK_THROWS_AS((rendezvous::Member{.rank = -1, .world = 4}.validate()), OptionError);
  CHECK_THROWS_AS((rendezvous::Member{.rank = 0, .world = 0}.validate()), OptionError);
  CHECK_THROWS_AS((rendezvous::Member{.rank = 0, .world = 1, .timeout = std::chrono::nanoseconds{}}.validate()),
                  OptionError);
}

}  // namespace
}  // namespace tessera
