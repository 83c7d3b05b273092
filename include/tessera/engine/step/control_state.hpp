// Everything that determines the next step and is not an array, as one value that is read and set between steps to save
// and continue a run. The control state in executor memory is in engine/kernels/step_numbers.hpp.
#pragma once

#include <cstdint>
#include <limits>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/step/settings.hpp>
#include <tessera/layout/options.hpp>

namespace tessera {

/// The state of a run beside its arrays, the same on every rank. The caller may change it between reading and setting
/// it, for example to continue with another learning rate.
template <class Rule>
struct ControlState {
  using Groups = typename rule::Set<Rule>::Groups;

  index_t steps = 0;     ///< steps applied
  index_t attempts = 0;  ///< steps that ended, applied or skipped
  double loss_scale = 1;  ///< of the next step; 1 if the precision does not scale the loss
  int overflows_left = 1;   ///< overflows until the loss scale is lowered (LossScale::hysteresis)
  index_t clean_steps = 0;  ///< steps since the last overflow (LossScale::growth_interval)
  index_t evaluation_changes = 0;  ///< how often an evaluation began or ended
  std::uint64_t seed = 0;
  double clip_norm = std::numeric_limits<double>::infinity();
  Groups rules;        ///< one per hyperparameter group: a std::vector<Rule>, or Rules<...>
  Groups first_rules;  ///< the rules at the start of training, for a rule's validate_change()

  /// Calls visit(name, member) for all members but the rules; the name is "ControlState::steps". State: const or not.
  template <class State, class Visit>
  static void for_each_number(State& state, Visit visit) {
    visit("ControlState::steps", state.steps);
    visit("ControlState::attempts", state.attempts);
    visit("ControlState::loss_scale", state.loss_scale);
    visit("ControlState::overflows_left", state.overflows_left);
    visit("ControlState::clean_steps", state.clean_steps);
    visit("ControlState::evaluation_changes", state.evaluation_changes);
    visit("ControlState::seed", state.seed);
    visit("ControlState::clip_norm", state.clip_norm);
  }

  /// Whether the parameters are evaluation weights.
  bool evaluating() const noexcept { return evaluation_changes % 2 == 1; }

  /// Throws OptionError unless an optimizer with these options and as many rules as `current` can continue from this
  /// state. Does not check the rules, which every step checks.
  void validate(const Options& options, const Groups& current, bool scales_loss) const {
    require(steps >= 0, "steps must not be negative, is ", steps);
    require(attempts >= steps, "attempts must be at least the steps applied, is ", attempts);
    require(evaluation_changes >= 0, "evaluation_changes must not be negative, is ", evaluation_changes);
    require(clip_norm > 0, "clip_norm must be greater than 0, is ", clip_norm);
    rule::for_each_type(current, [this](auto r, const auto& of) {
      const std::size_t now = rule::of<r>(rules).size(), first = rule::of<r>(first_rules).size();
      require(now == of.size(), "there must be one rule per hyperparameter group, rules has ", now);
      require(first == of.size(), "there must be one rule per hyperparameter group, first_rules has ", first);
    });
    if (!scales_loss) {
      require(loss_scale == 1, "loss_scale must be 1, since this precision does not scale the loss, is ", loss_scale);
      return;
    }
    const LossScale& scaling = options.loss_scale;
    require(scaling.dynamic || loss_scale == scaling.initial,
            "loss_scale must be Options::loss_scale.initial, since that is not dynamic, is ", loss_scale);
    require(loss_scale >= scaling.least && loss_scale <= std::numeric_limits<float>::max(),
            "loss_scale must be at least Options::loss_scale.least and finite as a float, is ", loss_scale);
    require(overflows_left >= 1 && overflows_left <= scaling.hysteresis,
            "overflows_left must be between 1 and Options::loss_scale.hysteresis, is ", overflows_left);
    require(clean_steps >= 0, "clean_steps must not be negative, is ", clean_steps);
  }

 private:
  template <class Number>
  static void require(bool good, const char* what, Number is) {
    if (!good) throw OptionError(message({"control state: ", what, is}));
  }
};

namespace engine {

/// Calls visit(setting) for all members of the control state, with `rules` as its rules.
template <class Rule, class Visit>
void for_each_setting(const ControlState<Rule>& state, const typename ControlState<Rule>::Groups& rules, Visit visit) {
  ControlState<Rule>::for_each_number(state, [&](const char* name, auto number) { visit(Setting::of(name, number)); });
  for_each_setting(rules, visit);
  for_each_setting(state.first_rules, visit);
}

}  // namespace engine

}  // namespace tessera
