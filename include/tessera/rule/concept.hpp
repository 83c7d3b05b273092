// What an update rule must have: scalar code for one element, its state, and its hyperparameters by name.
// A rule has no access to tensors, ranks or memory, so that the host can vectorize it and a device can run it.
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

/// The number of floats in a plain struct: 0 if it is empty, although its size is 1.
template <class T>
inline constexpr std::size_t floats = std::is_empty_v<T> ? 0 : sizeof(T) / sizeof(float);

// A float does not narrow to an int or a bool, and a double has another alignment. So a struct that can be built from
// floats has only float members.
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

/// An optimizer rule for Sharded: an aggregate of hyperparameters with
///   State        a plain struct of floats: what an element keeps between steps, zero before the first step.
///                state_names has a name for each, those of torch.optim where it has the rule; checkpoints use them
///   Scalars      a plain struct of floats that depend on the hyperparameters and the step only
///   scalars(step)     computes Scalars, once per step. The first step is 1; skipped steps are not counted
///   (weight, gradient, state, scalars)   returns the new weight; noexcept. The gradient is unscaled, averaged, clipped
///                                        and finite
///   validate()      throws OptionError with rule, field, value and range
/// Optional: in_step(step) returns the rule with the hyperparameters of that step (rule/scheduled.hpp).
/// A rule is applied element by element. A rule that needs the norms of whole tensors has further members:
/// NeedsTensorNorms.
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

/// An update rule whose step depends on the norms of the whole tensor, also where shards cut the tensor:
///   norm_input(weight, gradient, state, scalars)   called before the update: the value whose norm is computed together
///                                                  with the norm of the weights; may change the state; noexcept
///   with_trust_ratio(scalars, weight_norm, input_norm)   the scalars for the update of the tensor's elements
template <class R>
concept NeedsTensorNorms =
    UpdateRule<R> &&
    requires(const R& rule, float x, typename R::State& state, const typename R::Scalars& scalars, double norm) {
      { rule.norm_input(x, x, state, scalars) } noexcept -> std::same_as<float>;
      { rule.with_trust_ratio(scalars, norm, norm) } -> std::same_as<typename R::Scalars>;
    };

/// An update rule that trains other weights than those to evaluate or save:
///   to_evaluation(weight, state)   the weight to evaluate, computed from the trained weight; noexcept
template <class R>
concept HasEvaluationWeights =
    UpdateRule<R> && requires(const R& rule, float x, const typename R::State& state) {
      { rule.to_evaluation(x, state) } noexcept -> std::same_as<float>;
    };

/// An update rule whose state depends on a hyperparameter that must not change:
///   validate_change(first)   throws OptionError with rule and field, unless the rule can continue from the state of
///                            `first`, the rule at construction
template <class R>
concept ChecksChange = UpdateRule<R> && requires(const R& rule) {
  { rule.validate_change(rule) } -> std::same_as<void>;
};

/// The number of floats that a rule keeps per element.
template <class Rule>
inline constexpr std::size_t state_floats = rule_state::floats<typename Rule::State>;

/// Whether a rule's state_names are words that differ from each other and from the names of the optimizer's other
/// arrays. True for a type that is not an UpdateRule; another check rejects it.
template <class Rule>
constexpr bool has_distinct_state_names() {
  if constexpr (UpdateRule<Rule>) {
    constexpr auto& names = Rule::state_names;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::string_view name = names[i];
      if (name == "parameter" || name == "master" || name == "trained") return false;
      if (name.empty() || name.find_first_of(" \n") != std::string_view::npos) return false;  // files separate by these
      for (std::size_t k = 0; k < i; ++k)
        if (name == names[k]) return false;
    }
  }
  return true;
}

/// For validate(): throws OptionError unless `good`. Write the condition that must hold: comparisons with NaN are
/// false.
inline void require_option(bool good, const char* rule, const char* field, double value, const char* range) {
  if (good) return;
  throw OptionError(message({rule, ": ", field, " must be ", range, ", is ", value}));
}

/// For validate(): throws OptionError unless the value is in [0, largest float].
inline void require_not_negative(const char* rule, const char* field, double value) {
  require_option(value >= 0 && value <= std::numeric_limits<float>::max(), rule, field, value, "in [0, 3.4e38]");
}

/// For validate_change(): throws OptionError unless the field has the value that it had at construction.
inline void require_unchanged(const char* rule, const char* field, double value, double first) {
  if (value == first) return;
  throw OptionError(message({rule, ": ", field, " is ", value, ", was ", first,
                             " when the optimizer was built: the state depends on it, so it must not change"}));
}

}  // namespace tessera
