// Visits the hyperparameters of a rule one by one, so that ranks can compare each and name the one that differs.
// Structured bindings split the aggregate into members, so padding bytes are never compared.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace tessera::rule {

namespace hyperparameters {

// Converts to any type. Not defined, since it is only used in unevaluated expressions.
struct Any {
  template <class T>
  operator T() const;
};

template <class T, std::size_t... I>
constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{(static_cast<void>(I), Any{})...}; };
}

inline constexpr std::size_t most_members = 16;

/// The number of members of an aggregate: the largest number of initializers that it accepts.
template <class T, std::size_t n = most_members + 1>
constexpr std::size_t members() {
  if constexpr (n == 0 || takes<T>(std::make_index_sequence<n>{}))
    return n;
  else
    return members<T, n - 1>();
}

// A concept, because in a generic lambda nvcc 13 rejects the requires-expression if the member does not exist.
template <class T>
concept NamesHyperparameters = requires { T::hyperparameter_names.size(); };

template <class T>
inline constexpr bool is_array = false;
template <class T, std::size_t n>
inline constexpr bool is_array<std::array<T, n>> = true;

/// Calls member(k, value) for the k-th member of an aggregate.
template <class T, class Member>
constexpr void for_each_member(T& all, Member member) {
  constexpr std::size_t n = members<std::remove_const_t<T>>();
  static_assert(n <= most_members,
                "a rule or schedule, and each struct in it, has at most 16 members: group them in a struct");
  const auto each = [&](auto&... value) {
    std::size_t k = 0;
    (member(k++, value), ...);
  };
  // clang-format off
  if constexpr (n == 1) { auto& [a] = all; each(a); }
  if constexpr (n == 2) { auto& [a, b] = all; each(a, b); }
  if constexpr (n == 3) { auto& [a, b, c] = all; each(a, b, c); }
  if constexpr (n == 4) { auto& [a, b, c, d] = all; each(a, b, c, d); }
  if constexpr (n == 5) { auto& [a, b, c, d, e] = all; each(a, b, c, d, e); }
  if constexpr (n == 6) { auto& [a, b, c, d, e, f] = all; each(a, b, c, d, e, f); }
  if constexpr (n == 7) { auto& [a, b, c, d, e, f, g] = all; each(a, b, c, d, e, f, g); }
  if constexpr (n == 8) { auto& [a, b, c, d, e, f, g, h] = all; each(a, b, c, d, e, f, g, h); }
  if constexpr (n == 9) { auto& [a, b, c, d, e, f, g, h, i] = all; each(a, b, c, d, e, f, g, h, i); }
  if constexpr (n == 10) { auto& [a, b, c, d, e, f, g, h, i, j] = all; each(a, b, c, d, e, f, g, h, i, j); }
  if constexpr (n == 11) { auto& [a, b, c, d, e, f, g, h, i, j, k] = all; each(a, b, c, d, e, f, g, h, i, j, k); }
  if constexpr (n == 12) { auto& [a, b, c, d, e, f, g, h, i, j, k, l] = all; each(a, b, c, d, e, f, g, h, i, j, k, l); }
  if constexpr (n == 13) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = all; each(a, b, c, d, e, f, g, h, i, j, k, l, m); }
  if constexpr (n == 14) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o] = all; each(a, b, c, d, e, f, g, h, i, j, k, l, m, o); }
  if constexpr (n == 15) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p] = all; each(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p); }
  if constexpr (n == 16) { auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q] = all; each(a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q); }
  // clang-format on
}

/// T: const if the numbers are only read.
template <class T, class Visit>
constexpr void visit_leaves(T& value, const char* name, std::size_t index, Visit& visit) {
  using Plain = std::remove_const_t<T>;
  if constexpr (std::is_arithmetic_v<Plain>) {
    visit(name, index, value);
  } else if constexpr (std::is_enum_v<Plain>) {
    auto number = static_cast<std::underlying_type_t<Plain>>(value);
    visit(name, index, number);
    if constexpr (!std::is_const_v<T>) value = static_cast<Plain>(number);
  } else if constexpr (is_array<Plain>) {
    for (std::size_t k = 0; k < value.size(); ++k) visit_leaves(value[k], name, k, visit);
  } else {
    static_assert(std::is_aggregate_v<Plain>,
                  "hyperparameters are numbers, enumerations, std::arrays and plain structs of these");
    for_each_member(value, [&](std::size_t k, auto& member) {
      const char* member_name = name;
      if constexpr (NamesHyperparameters<Plain>) {
        static_assert(T::hyperparameter_names.size() == members<Plain>(), "hyperparameter_names names every member");
        member_name = T::hyperparameter_names[k];
      }
      visit_leaves(member, member_name, k, visit);
    });
  }
}

}  // namespace hyperparameters

/// Calls visit(name, index, number) for every number in `rule`, in declaration order, also those in nested structs.
/// name: from hyperparameter_names if the struct has it, else "hyperparameter" with the member's index. If `rule` is not
/// const, visit may change the numbers.
template <class Rule, class Visit>
constexpr void for_each_hyperparameter(Rule& rule, Visit visit) {
  hyperparameters::visit_leaves(rule, "hyperparameter", 0, visit);
}
template <class Rule, class Visit>
constexpr void for_each_hyperparameter(const Rule& rule, Visit visit) {
  hyperparameters::visit_leaves(rule, "hyperparameter", 0, visit);
}

}  // namespace tessera::rule
