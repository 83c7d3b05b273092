// The world divided into groups of consecutive ranks, and the peers of a rank: the ranks at its place in every group.
//
//     6 ranks in groups of 3     group 0: 0 1 2     group 1: 3 4 5     peers: 0 3 | 1 4 | 2 5
//     slices over a group        | 0       | 1       | 2       |       a group's ranks, in order
//     slices over the world      | 0  | 3  | 1  | 4  | 2  | 5  |       of these, its peers' slices divide each
#pragma once

namespace tessera {

/// The ranks that a call spans: all of the world, those of this rank's group, or its peers, which are the ranks at the
/// same index of every group.
enum class Ranks : unsigned char { world, group, peers };

namespace core {

/// `size` divides `world`. Groups of one rank: the slices of the world are in the order of ranks.
struct Groups {
  int world = 1;
  int size = 1;

  constexpr int count() const noexcept { return world / size; }

  /// How many ranks such a set has.
  constexpr int ranks(Ranks set) const noexcept {
    return set == Ranks::world ? world : set == Ranks::group ? size : count();
  }

  /// The first rank of the set that `rank` is in, and from there the distance to the next.
  constexpr int first(Ranks set, int rank) const noexcept {
    return set == Ranks::world ? 0 : set == Ranks::group ? rank / size * size : rank % size;
  }
  constexpr int stride(Ranks set) const noexcept { return set == Ranks::peers ? size : 1; }

  /// Which rank of its set this is.
  constexpr int index(Ranks set, int rank) const noexcept { return (rank - first(set, rank)) / stride(set); }

  /// Which slice is this rank's.
  constexpr int slice(Ranks set, int rank) const noexcept {
    return set == Ranks::world ? rank % size * count() + rank / size : index(set, rank);
  }
  /// Whose slice that is, of the world.
  constexpr int owner(int slice) const noexcept { return slice % count() * size + slice / count(); }

  friend constexpr bool operator==(Groups, Groups) = default;
};

}  // namespace core

}  // namespace tessera
