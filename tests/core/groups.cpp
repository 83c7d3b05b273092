#include <doctest/doctest.h>

#include <vector>

#include <tessera/core/groups.hpp>

namespace tessera {
namespace {

using core::Groups;

// The ranks of the set that `rank` is in, in order.
std::vector<int> set_of(Groups groups, Ranks set, int rank) {
  std::vector<int> ranks;
  for (int i = 0; i < groups.ranks(set); ++i) ranks.push_back(groups.first(set, rank) + i * groups.stride(set));
  return ranks;
}

TEST_CASE("groups are consecutive ranks, and peers are the ranks with the same index in every group") {
  constexpr Groups groups{6, 3};
  CHECK(groups.count() == 2);
  CHECK(set_of(groups, Ranks::world, 4) == std::vector<int>{0, 1, 2, 3, 4, 5});
  CHECK(set_of(groups, Ranks::group, 4) == std::vector<int>{3, 4, 5});
  CHECK(set_of(groups, Ranks::peers, 4) == std::vector<int>{1, 4});
}

TEST_CASE("index() is the index of a rank in its group, its peers and the world") {
  for (const Groups groups : {Groups{1, 1}, Groups{6, 1}, Groups{6, 2}, Groups{6, 3}, Groups{6, 6}, Groups{16, 4}})
    for (int rank = 0; rank < groups.world; ++rank)
      for (const Ranks set : {Ranks::world, Ranks::group, Ranks::peers})
        CHECK(set_of(groups, set, rank)[static_cast<std::size_t>(groups.index(set, rank))] == rank);
}

TEST_CASE("slices of the world divide a group's slice among peers, and each slice has one owner") {
  constexpr Groups groups{6, 3};
  std::vector<int> owners;
  for (int slice = 0; slice < 6; ++slice) owners.push_back(groups.owner(slice));
  CHECK(owners == std::vector<int>{0, 3, 1, 4, 2, 5});
  for (int rank = 0; rank < 6; ++rank) {
    CHECK(groups.owner(groups.slice(Ranks::world, rank)) == rank);
    CHECK(groups.slice(Ranks::world, rank) / groups.count() == groups.slice(Ranks::group, rank));
    CHECK(groups.slice(Ranks::world, rank) % groups.count() == groups.slice(Ranks::peers, rank));
  }
}

TEST_CASE("with groups of one rank, or one group of all ranks, slices of the world are in the order of ranks") {
  for (const int size : {1, 5})
    for (int rank = 0; rank < 5; ++rank) CHECK(Groups{5, size}.slice(Ranks::world, rank) == rank);
}

}  // namespace
}  // namespace tessera
