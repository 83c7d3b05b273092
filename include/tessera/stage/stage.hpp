// Stages: the placements of parameters, gradients and optimizer state, each sharded at least as widely as the one
// before. The four stages of ZeRO (Rajbhandari et al. 2020, section 5), two hybrid ones, and the base of user stages.
#pragma once

#include <concepts>

#include <tessera/layout/placement.hpp>

namespace tessera {

/// The base of a stage, which adds a name. Combinations that cannot be computed do not compile.
template <Placement of_parameters, Placement of_gradients, Placement of_state>
struct Stage {
  static_assert(of_gradients.extent >= of_parameters.extent,
                "Stage<parameters, gradients, state>: gradients are sharded less widely than parameters");
  static_assert(of_state.extent >= of_gradients.extent,
                "Stage<parameters, gradients, state>: state is sharded less widely than gradients");
  static_assert(of_parameters.extent == Extent::group || of_gradients.extent != Extent::group,
                "Stage<parameters, gradients, state>: gradients are sharded over groups only where parameters are");
  static_assert(of_gradients.extent == Extent::group || of_state.extent != Extent::group,
                "Stage<parameters, gradients, state>: state is sharded over groups only where gradients are");

  static constexpr Placement parameters = of_parameters;
  static constexpr Placement gradients = of_gradients;
  static constexpr Placement state = of_state;

  static constexpr bool has_groups = parameters.extent == Extent::group;
  static constexpr bool shards_parameters = parameters.sharded();
  static constexpr bool shards_gradients = gradients.sharded();
  static constexpr bool shards_state = state.sharded();
};

/// A struct that derives from a Stage and has a name.
template <class S>
concept StagePolicy = requires {
  { S::name } -> std::convertible_to<const char*>;
} && std::derived_from<S, Stage<S::parameters, S::gradients, S::state>>;

/// Data parallelism: every rank holds everything, and gradients are all-reduced.
struct Stage0 : Stage<placement::replicated, placement::replicated, placement::replicated> {
  static constexpr const char* name = "Stage0";
};

/// Optimizer state and master weights are sharded.
struct Stage1 : Stage<placement::replicated, placement::replicated, placement::world> {
  static constexpr const char* name = "Stage1";
};

/// Gradients, optimizer state and master weights are sharded.
struct Stage2 : Stage<placement::replicated, placement::world, placement::world> {
  static constexpr const char* name = "Stage2";
};

/// Parameters, gradients, optimizer state and master weights are sharded. Parameters are gathered before they are used.
struct Stage3 : Stage<placement::world, placement::world, placement::world> {
  static constexpr const char* name = "Stage3";
};

/// Everything is sharded over the ranks of a group, and replicated in every group. Parameters are gathered within a
/// group; gradients are summed over the world. FSDP calls it hybrid sharding, Zhang et al. 2022 MiCS.
struct StageHybrid : Stage<placement::group, placement::group, placement::group> {
  static constexpr const char* name = "StageHybrid";
};

/// Parameters and gradients are sharded over a group, optimizer state over the world. An update gathers parameters over
/// peers.
struct StageHybridState : Stage<placement::group, placement::group, placement::world> {
  static constexpr const char* name = "StageHybridState";
};

}  // namespace tessera
