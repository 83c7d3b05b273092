// A rule whose learning rate follows a schedule: Scheduled<AdamW, CosineSchedule>. The rate is computed where the step
// is counted, so it is also right for steps that a device replays (CUDA graphs) without the host.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// A rule with a learning rate `lr` that can be assigned. (Not a schedule-free rule.)
template <class R>
concept HasLearningRate =
    UpdateRule<R> && !HasEvaluationWeights<R> && requires(R& rule) { rule.lr = static_cast<decltype(rule.lr)>(1.0); };

/// `rule` with lr = schedule(step) in the step-th applied step. The value of rule.lr is ignored (rule/schedule.hpp).
template <HasLearningRate Rule, class Schedule>
struct Scheduled {
  Rule rule{};
  Schedule schedule{};

  static constexpr const char* name = Rule::name;

  using State = typename Rule::State;
  static constexpr auto state_names = Rule::state_names;
  using Scalars = typename Rule::Scalars;

  /// This rule with the learning rate of a step.
  TESSERA_HD Scheduled in_step(index_t step) const noexcept {
    Scheduled now = *this;
    now.rule.lr = static_cast<decltype(now.rule.lr)>(schedule(step));
    return now;
  }

  TESSERA_HD Scalars scalars(index_t step) const noexcept { return in_step(step).rule.scalars(step); }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    return rule(weight, gradient, state, s);
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float norm_input(float weight, float gradient, State& state,
                                                  const Scalars& s) const noexcept requires NeedsTensorNorms<Rule> {
    return rule.norm_input(weight, gradient, state, s);
  }
  TESSERA_HD Scalars with_trust_ratio(const Scalars& s, double weight_norm, double input_norm) const noexcept
      requires NeedsTensorNorms<Rule> {
    return rule.with_trust_ratio(s, weight_norm, input_norm);
  }

  /// Throws OptionError.
  void validate() const {
    schedule.validate();
    in_step(1).rule.validate();
  }
  void validate_change(const Scheduled& first) const requires ChecksChange<Rule> { rule.validate_change(first.rule); }
};

}  // namespace tessera
