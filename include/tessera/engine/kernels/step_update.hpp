// The fused update of a step: what a loop reads from the step's control state when it runs, not when it is enqueued.
#pragma once

#include <cstdint>

#include <tessera/core/random.hpp>
#include <tessera/engine/kernels/step_numbers.hpp>
#include <tessera/engine/kernels/tensor_norm.hpp>
#include <tessera/engine/kernels/update.hpp>

namespace tessera::engine {

/// A fused update that reads scale, rule, scalars and random bits from the control state when it runs.
template <class Rule, class Precision>
struct UpdateOfStep {
  using Element = FusedUpdate<Rule, Precision>;

  Element element{};
  const StepRule<Rule>* rule = nullptr;
  StepNumbers* numbers = nullptr;
  const TensorNorm* norm = nullptr;  ///< of the tensor; null if the rule needs none, or before it is computed
  std::uint64_t seed = 0;
  const std::uint64_t* absent = nullptr;  ///< number of ranks without a gradient of the unit; null: this rank has one
  std::uint64_t world = 0;

  static constexpr int pack_elements = Element::pack_elements;
  index_t lead() const noexcept { return element.lead(); }

  TESSERA_HD bool enabled() const noexcept { return numbers->outcome.applied && !(absent && *absent == world); }

  TESSERA_HD Element bind() const noexcept {
    Element complete = element;
    complete.rule = rule->rule;
    complete.scalars = rule->scalars;
    complete.scale = numbers->outcome.gradient_scale;
    complete.first_non_finite = &numbers->first_non_finite_weight.place;
    if constexpr (requires { complete.weight.random; })
      complete.weight.random = core::StepRandom(seed, numbers->outcome.steps);
    if constexpr (NeedsTensorNorms<Rule>)
      if (norm) complete.scalars = complete.rule.with_trust_ratio(complete.scalars, norm->of_weights(), norm->of_norm_input());
    return complete;
  }
};

/// A loop with body `Body`, which is constructed from the update of a step.
template <class Body, class Rule, class Precision>
struct OfUpdate {
  UpdateOfStep<Rule, Precision> update;

  TESSERA_HD bool enabled() const noexcept { return update.enabled(); }
  TESSERA_HD Body bind() const noexcept { return Body{update.bind()}; }
};

/// Sets a weight from its parameter.
template <class Kept>
struct StartWeight {
  Kept weight;
  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    weight.store(i, static_cast<float>(weight.parameter[i]));
  }
};

}  // namespace tessera::engine
