// The properties of rule, stage, precision and communicator that the plan needs, as numbers.
#pragma once

#include <array>
#include <type_traits>

#include <tessera/comm/communicator.hpp>
#include <tessera/engine/kernels/step_numbers.hpp>
#include <tessera/engine/memory/tensor_norms.hpp>
#include <tessera/layout/plan.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/concept.hpp>
#include <tessera/rule/rules.hpp>

namespace tessera {

namespace engine {

/// Whether backward accumulates the passes of a step in the gradient buffer, which is reduced once (design section 4,
/// point 2).
template <class Stage>
constexpr bool adds_passes(bool ordered) {
  return !ordered && !Stage::shards_gradients;
}

/// The properties of the communicator that the plan needs.
struct Sums {
  bool ordered = true;
  bool workspace = false;          ///< needed by reductions to the reduction type
  bool partial_workspace = false;  ///< needed by reductions to partial sums
};

template <class Comm, class Precision>
constexpr Sums sums_of() {
  using Gradient = typename Precision::Gradient;
  return {Comm::ordered, needs_workspace<Comm, Gradient, typename Precision::Reduction>(),
          needs_workspace<Comm, Gradient, float>()};
}

template <class Rule>
constexpr std::array<RuleFootprint, layout::most_rules> rule_footprints() {
  std::array<RuleFootprint, layout::most_rules> rules{};
  rule::for_each<Rule>([&](auto r) {
    using Type = typename rule::Set<Rule>::template At<r>;
    rules[r] = {state_floats<Type>, sizeof(StepRule<Type>)};
  });
  return rules;
}

}  // namespace engine

/// The policies as numbers, for the plan.
template <class Rule, class Stage, class Precision>
constexpr Footprint footprint_of(engine::Sums sums = {}) {
  using Parameter = typename Precision::Parameter;
  using Reduction = typename Precision::Reduction;
  return {.parameters = Stage::parameters,
          .gradients = Stage::gradients,
          .state = Stage::state,
          .reduced_in_place = std::is_same_v<typename Precision::Gradient, Reduction>,
          .parameter_bytes = sizeof(Parameter),
          .gradient_bytes = sizeof(typename Precision::Gradient),
          .reduction_bytes = sizeof(Reduction),
          .master_bytes = precision::master_bytes<Precision>,
          .rules = engine::rule_footprints<Rule>(),
          .state_bytes = sizeof(typename Precision::State),
          .training_weight_bytes =
              rule::has_evaluation_weights<Rule> && !precision::parameter_follows_master<Precision> ? index_t{sizeof(Parameter)} : 0,
          .passes_added_in_place = engine::adds_passes<Stage>(sums.ordered),
          .sums_ordered = sums.ordered,
          .sums_need_workspace = sums.workspace,
          .partial_sums_need_workspace = sums.partial_workspace,
          .agreement_words = engine::AgreementWords::size(0, 0),
          .agreement_words_per_rank = engine::AgreementWords::size(1, 0) - engine::AgreementWords::size(0, 0),
          .agreement_words_per_unit = engine::AgreementWords::size(0, 1) - engine::AgreementWords::size(0, 0),
          .norm_words = rule::needs_tensor_norms<Rule> ? engine::norm_words : 0,
          .step_bytes = sizeof(engine::StepNumbers)};
}

}  // namespace tessera
