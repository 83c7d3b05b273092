// Every allocation of a rank in bytes, before anything is allocated. Storage is allocated from these numbers.
// Rajbhandari et al. 2020 (ZeRO), table 1, counts the rows parameters, gradients, master weights and optimizer state.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include <tessera/layout/options.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera {

/// A rule as numbers.
struct RuleFootprint {
  index_t state_floats = 0;  ///< per element
  index_t bytes = 0;         ///< of the rule and its scalars, per hyperparameter group

  friend constexpr bool operator==(const RuleFootprint&, const RuleFootprint&) = default;
};

/// The sizes and flags of the policies, as numbers. Bytes are per element; 0 bytes: no such buffer.
struct Footprint {
  Placement parameters = placement::replicated;
  Placement gradients = placement::replicated;
  Placement state = placement::replicated;
  bool reduced_in_place = true;  ///< the reduction type is the gradient type
  index_t parameter_bytes = 4;
  index_t gradient_bytes = 4;
  index_t reduction_bytes = 4;
  index_t master_bytes = 0;
  std::array<RuleFootprint, layout::most_rules> rules{};
  index_t state_bytes = 4;             ///< of each state float
  index_t training_weight_bytes = 0;   ///< of a training weight that is saved during evaluation
  bool passes_added_in_place = false;  ///< the caller's backward accumulates passes; there are no partial sums
  bool sums_ordered = true;            ///< one sum over all micro-batches; else one sum per pass
  bool sums_need_workspace = false;    ///< for reductions to the reduction type
  bool partial_sums_need_workspace = false;  ///< for reductions to partial sums
  index_t agreement_words = 0;  ///< of the all-reduce that decides a step
  index_t agreement_words_per_rank = 0;
  index_t agreement_words_per_unit = 0;
  index_t norm_words = 0;  ///< per tensor
  index_t step_bytes = 0;  ///< of the control state of a step

  friend constexpr bool operator==(const Footprint&, const Footprint&) = default;
};

/// One kind of buffer that a rank holds.
struct Allocation {
  const char* name = "";
  index_t copies = 0;
  index_t elements = 0;  ///< per copy
  index_t element_bytes = 0;

  constexpr index_t bytes() const { return copies * elements * element_bytes; }
};

/// The allocations of one rule.
struct RulePlan {
  Allocation optimizer_state;  ///< of the tensors with this rule
  Allocation step_rules;
};

struct Plan {
  Allocation parameters;
  Allocation gradients;
  Allocation reduced_gradients;
  Allocation partial_sums;
  Allocation master_weights;
  Allocation optimizer_state;  ///< of the first rule
  Allocation training_weights;
  Allocation gradient_slots;
  Allocation gathered_buckets;
  Allocation reduction_workspace;
  Allocation agreement;
  Allocation tensor_norms;
  Allocation step_numbers;
  Allocation step_rules;  ///< of the first rule
  std::array<RulePlan, layout::most_rules - 1> further_rules{};  ///< of Rules<...>, from its second rule on

  constexpr RulePlan of_rule(int rule) const {
    return rule == 0 ? RulePlan{optimizer_state, step_rules} : further_rules[to_size(rule - 1)];
  }

  constexpr core::List<Allocation> allocations() const {
    core::List<Allocation> all{parameters,       gradients,       reduced_gradients,   partial_sums,
                               master_weights,   optimizer_state, training_weights,    gradient_slots,
                               gathered_buckets, reduction_workspace, agreement,       tensor_norms,
                               step_numbers,     step_rules};
    for (const RulePlan& rule : further_rules)
      for (const Allocation& allocation : {rule.optimizer_state, rule.step_rules})
        if (allocation.bytes() > 0) all.push_back(allocation);
    return all;
  }

  /// The bytes of all allocations of a rank.
  constexpr index_t bytes() const {
    index_t sum = 0;
    for (const Allocation& allocation : allocations()) sum += allocation.bytes();
    return sum;
  }

  /// The bytes that table 1 of the ZeRO paper counts: parameters, gradients, master weights, optimizer state.
  constexpr index_t model_bytes() const {
    index_t sum = parameters.bytes() + gradients.bytes() + reduced_gradients.bytes() + master_weights.bytes();
    for (int r = 0; r < layout::most_rules; ++r) sum += of_rule(r).optimizer_state.bytes();
    return sum;
  }
};

/// The number of elements that each buffer of the caller must have; 0: pass no buffer.
struct Required {
  index_t parameters = 0;
  index_t gradients = 0;
};

namespace layout {

/// Gradient slots in addition to those of tied units: one that backward fills, one whose reduction is in flight.
inline constexpr int slots_in_flight = 2;

/// The number of partial sums of a binary counter over `passes`. A single pass needs none.
constexpr index_t partial_sum_levels(int passes) {
  return passes == 1 ? 0 : std::bit_width(static_cast<unsigned>(passes));
}

/// The maximum number of partial sums that a counter over all micro-batches (comm/tree.hpp) holds between two passes.
/// Each pass adds `world` micro-batches; after k passes the counter holds popcount(k * world) sums. For more than 4096
/// passes this returns an upper bound, the number of bits.
constexpr index_t carried_sums(int passes, int world) {
  constexpr int counted = 4096;
  const auto leaves = [world](int k) { return static_cast<std::uint64_t>(k) * static_cast<std::uint64_t>(world); };
  if (passes > counted) return static_cast<index_t>(std::bit_width(leaves(passes - 1)));
  int most = 0;
  for (int k = 1; k < passes; ++k) most = max(most, std::popcount(leaves(k)));
  return most;
}

constexpr Plan make_plan(const Sharding& sharding, const Options& options, const Footprint& of) {
  const Layout& layout = sharding.layout();
  const index_t whole = layout.trainable_elements();
  const index_t shard = sharding.shard_elements(sharding.trainable());
  const index_t state = of.state.sharded() ? sharding.shard_elements(sharding.trainable(), of.state.extent) : whole;
  const int tied = layout.tied_units();
  const index_t slots = of.gradients.sharded() ? min(sharding.buckets(), slots_in_flight + tied) : 0;
  const index_t pool =
      of.parameters.sharded() ? min<index_t>(sharding.buckets(), index_t{1} + options.prefetch + tied) : 0;
  const bool apart = of.gradients.sharded() || !of.reduced_in_place;
  const bool one_pass = of.passes_added_in_place || options.micro_batches == 1;
  const bool workspace =
      sharding.world() > 1 && (of.sums_need_workspace || (!one_pass && of.partial_sums_need_workspace));

  Plan plan;
  plan.parameters = {"parameters", 1,
                     of.parameters.sharded() ? sharding.shard_elements(sharding.all_spaces(), of.parameters.extent)
                                             : layout.parameter_elements(),
                     of.parameter_bytes};
  plan.gradients = {"gradients", of.gradients.sharded() ? 0 : 1, whole, of.gradient_bytes};
  plan.reduced_gradients = {"reduced gradients", apart ? 1 : 0, state, of.reduction_bytes};
  plan.partial_sums = {"partial sums",
                       of.passes_added_in_place ? 0
                       : of.sums_ordered        ? carried_sums(options.micro_batches, sharding.world())
                                                : partial_sum_levels(options.micro_batches),
                       shard, 4};
  plan.master_weights = {"master weights", of.master_bytes ? 1 : 0, state, of.master_bytes};
  plan.training_weights = {"training weights", of.training_weight_bytes ? 1 : 0, state, of.training_weight_bytes};
  plan.gradient_slots = {"gradient slots", slots, sharding.longest_bucket(sharding.trainable()), of.gradient_bytes};
  plan.gathered_buckets = {"gathered buckets", pool, sharding.longest_bucket(sharding.all_spaces()), of.parameter_bytes};
  plan.reduction_workspace = {"reduction workspace", workspace ? sharding.world() : 0,
                              sharding.longest_part(), of.gradient_bytes};
  plan.agreement = {"agreement", 1,
                    of.agreement_words + of.agreement_words_per_rank * sharding.world() +
                        of.agreement_words_per_unit * layout.units(),
                    8};
  plan.tensor_norms = {"tensor norms", 1, of.norm_words * (layout.tensors().size() + (of.state == placement::group)), 8};
  plan.step_numbers = {"step numbers", 1, 1, of.step_bytes};
  constexpr std::array<RulePlan, most_rules> names{{{{"optimizer state"}, {"step rules"}},
                                                    {{"optimizer state of rule 1"}, {"step rules of rule 1"}},
                                                    {{"optimizer state of rule 2"}, {"step rules of rule 2"}},
                                                    {{"optimizer state of rule 3"}, {"step rules of rule 3"}}}};
  for (int r = 0; r < layout::most_rules; ++r) {
    const RuleFootprint& rule = of.rules[to_size(r)];
    const RulePlan& name = names[to_size(r)];
    const layout::Spaces space = sharding.of_rule(r);
    const index_t elements = space.first == space.last ? 0
                             : of.state.sharded()      ? sharding.shard_elements(space, of.state.extent)
                                                       : layout.space_elements(r);
    const RulePlan rule_plan{{name.optimizer_state.name, rule.state_floats, elements, of.state_bytes},
                             {name.step_rules.name, 1, layout.groups(r), rule.bytes}};
    if (r > 0) {
      plan.further_rules[to_size(r - 1)] = rule_plan;
    } else {
      plan.optimizer_state = rule_plan.optimizer_state;
      plan.step_rules = rule_plan.step_rules;
    }
  }
  return plan;
}

}  // namespace layout

}  // namespace tessera
