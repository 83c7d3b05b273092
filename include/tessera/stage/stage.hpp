// The four stages of ZeRO (Rajbhandari et al. 2020, section 5): what a rank holds a shard of, and what it holds whole.
#pragma once

#include <concepts>

namespace tessera {

/// Three flags. Sharded parameters need sharded gradients, and those need sharded state.
template <class S>
concept StagePolicy = requires {
  { S::shards_state } -> std::convertible_to<bool>;
  { S::shards_gradients } -> std::convertible_to<bool>;
  { S::shards_parameters } -> std::convertible_to<bool>;
  { S::name } -> std::convertible_to<const char*>;
}
&&(!S::shards_parameters || S::shards_gradients) && (!S::shards_gradients || S::shards_state);

/// Data parallelism: everything whole, gradients reduced.
struct Stage0 {
  static constexpr const char* name = "Stage0";
  static constexpr bool shards_state = false;
  static constexpr bool shards_gradients = false;
  static constexpr bool shards_parameters = false;
};

/// Optimizer state and master weights are sharded.
struct Stage1 {
  static constexpr const char* name = "Stage1";
  static constexpr bool shards_state = true;
  static constexpr bool shards_gradients = false;
  static constexpr bool shards_parameters = false;
};

/// Gradients too.
struct Stage2 {
  static constexpr const char* name = "Stage2";
  static constexpr bool shards_state = true;
  static constexpr bool shards_gradients = true;
  static constexpr bool shards_parameters = false;
};

/// Parameters too: gathered where they are used.
struct Stage3 {
  static constexpr const char* name = "Stage3";
  static constexpr bool shards_state = true;
  static constexpr bool shards_gradients = true;
  static constexpr bool shards_parameters = true;
};

}  // namespace tessera
