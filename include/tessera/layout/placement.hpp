// Placement: over which ranks an array over the flat space is sharded. A stage has three placements (stage/stage.hpp),
// and every per-parameter array of the engine has one (engine/memory/flat_array.hpp).
#pragma once

namespace tessera {

/// Over which ranks an array is sharded, from the most memory per rank to the least.
enum class Extent {
  replicated,  ///< every rank holds all of it
  group,       ///< sharded over the ranks of a group, and replicated in every group
  world        ///< sharded over all ranks
};

/// The placement of an array. A structural type, so that it can be a template argument.
struct Placement {
  Extent extent = Extent::replicated;

  constexpr bool sharded() const noexcept { return extent != Extent::replicated; }
  friend constexpr bool operator==(Placement, Placement) = default;
};

namespace placement {

inline constexpr Placement replicated{Extent::replicated};
inline constexpr Placement group{Extent::group};
inline constexpr Placement world{Extent::world};

}  // namespace placement

}  // namespace tessera
