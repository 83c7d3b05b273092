// The fused update: unscale, rule, master weight, state and low-precision parameter in one pass over memory.
// One element is one call; the executor makes the loop (exec/vectorize.hpp on the host).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/vectorize.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// One element of a step: executor.for_each(n, FusedUpdate<...>{...}).
/// gradient [n]: float or a 16-bit type, multiplied by `scale` first (mean over micro-batches, loss scale, clipping).
/// weight [n]: the fp32 weight that the rule works on. parameter [n]: where the rounded weight goes; with
/// Parameter = float the weight is the parameter, and the pointer is not looked at. state: one array [n] a member of
/// Rule::State. None of them overlap.
template <class Rule, class Gradient, class Parameter>
struct FusedUpdate {
  const Gradient* gradient = nullptr;
  float* weight = nullptr;
  Parameter* parameter = nullptr;
  std::array<float*, state_floats<Rule>> state{};
  Rule rule{};
  typename Rule::Scalars scalars{};
  float scale = 1;

  static constexpr bool rounds = !std::is_same_v<Parameter, float>;

  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    update(i);
    if constexpr (rounds) last(i);
  }

  /// The two halves of a call, for loops that take the rounding off the heels of the division (exec/vectorize.hpp).
  /// On a Zen 3, 2^11 elements, ns an element: g++ 0.60 whole, 0.57 in halves; clang 0.65 and 0.53 (bench/update).
  TESSERA_HD TESSERA_ALWAYS_INLINE void first(index_t i) const noexcept
    requires rounds
  {
    update(i);
  }
  TESSERA_HD TESSERA_ALWAYS_INLINE void last(index_t i) const noexcept
    requires rounds
  {
    parameter[i] = Parameter(weight[i]);
  }
  /// Memory for the elements to come: the root and the division of a rule keep the processor from running ahead itself.
  TESSERA_ALWAYS_INLINE void prefetch(index_t i) const noexcept {
    vector_code::prefetch_block(gradient + i);
    vector_code::prefetch_block(weight + i);
    for (float* const one : state) vector_code::prefetch_block(one + i);
    if constexpr (rounds) vector_code::prefetch_block(parameter + i);
  }

 private:
  TESSERA_HD TESSERA_ALWAYS_INLINE void update(index_t i) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = static_cast<float>(gradient[i]) * scale;
    typename Rule::State s = load(i, std::make_index_sequence<state_floats<Rule>>{});
    weight[i] = rule(weight[i], g, s, scalars);
    store(i, s, std::make_index_sequence<state_floats<Rule>>{});
  }

  template <std::size_t... Member>
  TESSERA_HD TESSERA_ALWAYS_INLINE typename Rule::State load(index_t i, std::index_sequence<Member...>) const noexcept {
    if constexpr (sizeof...(Member) == 0) {
      return {};
    } else {
      return std::bit_cast<typename Rule::State>(std::array<float, sizeof...(Member)>{state[Member][i]...});
    }
  }

  template <std::size_t... Member>
  TESSERA_HD TESSERA_ALWAYS_INLINE void store(index_t i, const typename Rule::State& s,
                                              std::index_sequence<Member...>) const noexcept {
    if constexpr (sizeof...(Member) > 0) {
      const auto floats = std::bit_cast<std::array<float, sizeof...(Member)>>(s);
      ((state[Member][i] = floats[Member]), ...);
    }
  }
};

}  // namespace tessera
