// What an update rule must have: scalar code for one element of one tensor, its state and its hyperparameters by name.
// A rule sees neither tensors nor ranks nor memory; it refuses to be anything that a vector or a kernel cannot run.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

namespace rule_state {

/// How many floats a plain struct holds: none if it is empty, although its size is 1.
template <class T>
inline constexpr std::size_t floats = std::is_empty_v<T> ? 0 : sizeof(T) / sizeof(float);

// A float does not narrow into an int or a bool, and a double has another alignment: what can be built so is all
// floats.
template <class T, std::size_t... I>
constexpr bool built_from_floats(std::index_sequence<I...>) {
  return requires(float x) { T{(static_cast<void>(I), x)...}; };
}

}  // namespace rule_state

/// A plain struct of floats, or an empty one.
template <class T>
concept PlainFloats = std::is_aggregate_v<T> && std::is_trivially_copyable_v<T> && std::default_initializable<T> &&
                      (std::is_empty_v<T> || (alignof(T) == alignof(float) && sizeof(T) % sizeof(float) == 0 &&
                                              rule_state::built_from_floats<T>(
                                                  std::make_index_sequence<rule_state::floats<T>>{})));

/// An optimizer as Sharded takes it: an aggregate of hyperparameters with
///   State        plain floats that an element keeps between steps, zero before the first; state_names names each, as
///                torch.optim does where it has the rule: checkpoints know the arrays by these names
///   Scalars      plain floats that depend on the hyperparameters and the step alone
///   scalars(step)     computes them, once a step; the first step is 1; a skipped step is not counted
///   (weight, gradient, state, scalars)   the new weight; never throws; gradient is unscaled, averaged, clipped, finite
///   validate()      throws OptionError that names rule, field, value and range
/// in_step(step), if there is one, is the rule itself as it is in that step (rule/scheduled.hpp).
/// A rule is run element by element. One that needs more says so by further members: norms of whole tensors, see
/// NeedsTensorNorms. (Whole matrices, for rules like Muon, would be another such concept.)
template <class R>
concept UpdateRule =
    std::is_aggregate_v<R> && std::is_trivially_copyable_v<R> && std::copyable<R> && PlainFloats<typename R::State> &&
    PlainFloats<typename R::Scalars> &&
    requires(const R& rule, float x, typename R::State& state, const typename R::Scalars& scalars, index_t step) {
      { R::name } -> std::convertible_to<const char*>;
      { rule.scalars(step) } -> std::same_as<typename R::Scalars>;
      { rule(x, x, state, scalars) } noexcept -> std::same_as<float>;
      { rule.validate() } -> std::same_as<void>;
      requires std::same_as<std::remove_cvref_t<decltype(R::state_names)>,
                            std::array<const char*, rule_state::floats<typename R::State>>>;
    };

/// An update rule whose step depends on the norms of the tensor that an element belongs to, wherever shards cut it:
///   norm_input(weight, gradient, state, scalars)   before the update: the number whose norm is taken beside the
///                                                weights'; may change the state; never throws
///   with_trust_ratio(scalars, weight_norm, input_norm)   the scalars with which the tensor's elements are then updated
template <class R>
concept NeedsTensorNorms =
    UpdateRule<R> &&
    requires(const R& rule, float x, typename R::State& state, const typename R::Scalars& scalars, double norm) {
      { rule.norm_input(x, x, state, scalars) } noexcept -> std::same_as<float>;
      { rule.with_trust_ratio(scalars, norm, norm) } -> std::same_as<typename R::Scalars>;
    };

/// An update rule whose gradients are taken at other weights than those that are worth evaluating or saving:
///   to_evaluation(weight, state)   the weight that is evaluated, of the one that is trained; never throws
template <class R>
concept HasEvaluationWeights =
    UpdateRule<R> && requires(const R& rule, float x, const typename R::State& state) {
      { rule.to_evaluation(x, state) } noexcept -> std::same_as<float>;
    };

/// An update rule whose state means something else when some hyperparameter changes:
///   validate_change(first)   throws OptionError, naming rule and field, unless it can go on from the state of `first`,
///                         the rule of the construction
template <class R>
concept ChecksChange = UpdateRule<R> && requires(const R& rule) {
  { rule.validate_change(rule) } -> std::same_as<void>;
};

/// How many floats a rule keeps an element.
template <class Rule>
inline constexpr std::size_t state_floats = rule_state::floats<typename Rule::State>;

/// Whether a rule's state_names differ from each other and from the other arrays that an optimizer keeps. What is no rule
/// is refused elsewhere.
template <class Rule>
constexpr bool has_distinct_state_names() {
  if constexpr (UpdateRule<Rule>) {
    constexpr auto& names = Rule::state_names;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::string_view name = names[i];
      if (name == "parameter" || name == "master" || name == "trained") return false;
      for (std::size_t k = 0; k < i; ++k)
        if (name == names[k]) return false;
    }
  }
  return true;
}

/// For a rule's validate(): throws OptionError unless `good`. A comparison with NaN is false, so write what must hold.
inline void require_option(bool good, const char* rule, const char* field, double value, const char* range) {
  if (good) return;
  throw OptionError(message({rule, ": ", field, " must be ", range, ", is ", value}));
}

/// The same for what may be anything from 0 that a float can hold.
inline void require_not_negative(const char* rule, const char* field, double value) {
  require_option(value >= 0 && value <= std::numeric_limits<float>::max(), rule, field, value, "in [0, 3.4e38]");
}

/// For a rule's validate_change(): throws OptionError unless a field is as it was at construction.
inline void require_unchanged(const char* rule, const char* field, double value, double first) {
  if (value == first) return;
  throw OptionError(message({rule, ": ", field, " is ", value, ", was ", first,
                             " when the optimizer was built: the state depends on it, so it must not change"}));
}

}  // namespace tessera
