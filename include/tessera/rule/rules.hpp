// Several rules in one optimizer, Sharded<Rules<Lion, AdamW>, ...>, and how the engine treats one rule and several
// alike. TensorOptions::rule says which rule updates a tensor.
#pragma once

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// Update rules of different types. A value has one rule per hyperparameter group of each type.
///
///     Sharded<Rules<Lion, AdamW>, Stage2, Bf16> optimizer{comm, layout, buffers, {Lion{.lr = 1e-4f}, AdamW{}}};
template <class... Rule>
struct Rules {
  std::tuple<std::vector<Rule>...> groups;

  Rules() = default;
  /// One hyperparameter group for each rule.
  Rules(const Rule&... rule) : groups{std::vector<Rule>{rule}...} {}
  Rules(std::vector<Rule>... of_rule) : groups{std::move(of_rule)...} {}
};

namespace rule {

/// What an optimizer is composed of: one rule, or Rules. Groups: the values that the caller sets.
template <class Rule>
struct Set {
  static constexpr int count = 1;
  static constexpr bool valid = UpdateRule<Rule>;
  using Groups = std::vector<Rule>;
  template <int r>
  using At = Rule;
};

template <class... Rule>
struct Set<Rules<Rule...>> {
  static constexpr int count = sizeof...(Rule);
  static constexpr bool valid = count > 0 && (UpdateRule<Rule> && ...);
  using Groups = Rules<Rule...>;
  template <int r>
  using At = std::tuple_element_t<to_size(r), std::tuple<Rule...>>;
};

/// Calls f(r), r a std::integral_constant, for each rule.
template <class Rule, class F>
constexpr void for_each(F f) {
  [&]<int... r>(std::integer_sequence<int, r...>) {
    (f(std::integral_constant<int, r>{}), ...);
  }(std::make_integer_sequence<int, Set<Rule>::count>{});
}

/// Calls f(r) for the rule with index `rule`.
template <class Rule, class F>
constexpr void with(int rule, F f) {
  if constexpr (Set<Rule>::count == 1)
    f(std::integral_constant<int, 0>{});
  else
    for_each<Rule>([&](auto r) {
      if (r == rule) f(r);
    });
}

/// The rules of type r, one per hyperparameter group.
template <int r, class Rule>
constexpr auto& of(std::vector<Rule>& groups) noexcept {
  return groups;
}
template <int r, class Rule>
constexpr const auto& of(const std::vector<Rule>& groups) noexcept {
  return groups;
}
template <int r, class... Rule>
constexpr auto& of(Rules<Rule...>& rules) noexcept {
  return std::get<to_size(r)>(rules.groups);
}
template <int r, class... Rule>
constexpr const auto& of(const Rules<Rule...>& rules) noexcept {
  return std::get<to_size(r)>(rules.groups);
}

/// The rules of type `Type`, one per hyperparameter group. Does not compile unless exactly one of the types is `Type`.
template <class Type, class Rule>
constexpr std::vector<Type>& of_type(std::vector<Rule>& groups) noexcept {
  static_assert(std::is_same_v<Type, Rule>, "rule<Type>(group): the optimizer has another rule");
  return groups;
}
template <class Type, class... Rule>
constexpr std::vector<Type>& of_type(Rules<Rule...>& rules) noexcept {
  constexpr bool one = ((std::is_same_v<Type, Rule> ? 1 : 0) + ...) == 1;
  static_assert(one, "rule<Type>(group): name one of the optimizer's rules, as in rule<AdamW>(0)");
  return std::get<std::vector<Type>>(rules.groups);
}

/// Calls f(r, rules of type r) for each type.
template <class Rule, class F>
constexpr void for_each_type(const std::vector<Rule>& groups, F f) {
  f(std::integral_constant<int, 0>{}, groups);
}
template <class... Rule, class F>
constexpr void for_each_type(const Rules<Rule...>& rules, F f) {
  for_each<Rules<Rule...>>([&](auto r) { f(r, of<r>(rules)); });
}

template <class Rule>
inline constexpr bool needs_tensor_norms = NeedsTensorNorms<Rule>;
template <class... Rule>
inline constexpr bool needs_tensor_norms<Rules<Rule...>> = (NeedsTensorNorms<Rule> || ...);

template <class Rule>
inline constexpr bool has_evaluation_weights = HasEvaluationWeights<Rule>;
template <class... Rule>
inline constexpr bool has_evaluation_weights<Rules<Rule...>> = (HasEvaluationWeights<Rule> || ...);

/// "AdamW", or "Rules<Lion, AdamW>".
template <class Rule>
std::string name() {
  if constexpr (Set<Rule>::count == 1 && requires { Rule::name; }) {
    return Rule::name;
  } else {
    std::string text = "Rules<";
    for_each<Rule>([&](auto r) { text += message({r == 0 ? "" : ", ", Set<Rule>::template At<r>::name}); });
    return text + ">";
  }
}

/// Whether all rules have distinct state names (has_distinct_state_names).
template <class Rule>
constexpr bool have_distinct_state_names() {
  bool distinct = true;
  for_each<Rule>([&](auto r) { distinct &= has_distinct_state_names<typename Set<Rule>::template At<r>>(); });
  return distinct;
}

}  // namespace rule

}  // namespace tessera
