// The fused update: unscale, rule, master weight, state and low-precision parameter in one pass over memory.
// One call handles one element; the executor runs the loop (exec/vectorize.hpp on the host).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/core/atomic.hpp>
#include <tessera/core/bfloat16.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/kernels/packs.hpp>
#include <tessera/exec/vectorize.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera::engine {

/// Masks that test whether a number is infinite or NaN, that is, whether all exponent bits are set. Adding the lowest
/// exponent bit to the masked exponent then carries into the sign bit. The words have 32 bits: one number, or two.
template <class T>
struct ExponentBits;
template <>
struct ExponentBits<float> {
  static constexpr std::uint32_t all = 0x7f800000u, lowest = 0x00800000u, carry = 0x80000000u;
};
template <>
struct ExponentBits<bfloat16> {
  static constexpr std::uint32_t all = 0x7f807f80u, lowest = 0x00800080u, carry = 0x80008000u;
};
template <>
struct ExponentBits<float16> {
  static constexpr std::uint32_t all = 0x7c007c00u, lowest = 0x04000400u, carry = 0x80008000u;
};

/// The update of one element: executor.for_each(n, FusedUpdate<...>{...}).
/// gradient: [n], first multiplied by `scale` (mean over micro-batches, loss scale, clipping). weight: n fp32 weights,
/// in the storage that Precision defines. state: one array [n] per member of Rule::State. Arrays do not overlap.
template <class Rule, class Precision>
struct FusedUpdate {
  using Kept = precision::KeptWeight<typename Precision::Parameter, typename Precision::Master>;
  using State = typename Precision::State;

  const typename Precision::Reduction* gradient = nullptr;
  Kept weight{};
  State* state[max<std::size_t>(state_floats<Rule>, 1)]{};
  Rule rule{};
  typename Rule::Scalars scalars{};
  float scale = 1;
  std::uint64_t* first_non_finite = nullptr;  ///< lowered to the offset of an updated parameter that is not finite

  static constexpr bool in_halves = requires(Kept kept) { kept.store_last(0); };

  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { weight.store(i, updated(i)); }

  /// The two halves of a call, which exec/vectorize.hpp runs in separate loops.
  TESSERA_HD TESSERA_ALWAYS_INLINE void first(index_t i) const noexcept requires in_halves {
    weight.store_first(i, updated(i));
  }
  TESSERA_HD TESSERA_ALWAYS_INLINE void last(index_t i) const noexcept requires in_halves { weight.store_last(i); }

  /// The elements per pack(): 16 bytes of the widest array. Then the accesses of a warp are contiguous in every array.
  /// With 16 bytes of the narrowest array, each access to a wider array would use only half of a 32-byte sector.
  static constexpr int pack_elements = static_cast<int>(
      16 / max(max(sizeof(typename Precision::Reduction), sizeof(typename Precision::Parameter)), sizeof(State)));

  /// A device compiler may fuse multiplications and additions differently in each lane of a pack (nvcc 13.0, Lamb in
  /// fp32: three of four lanes rounded a product that the last one fused). So an element's lane depends only on its
  /// offset in the flat space: packs begin at multiples of pack_elements there, for every stage, world size and
  /// alignment. lead(): elements of the first pack that precede element 0.
  index_t lead() const noexcept { return weight.place % pack_elements; }

  /// The same for those of the elements i .. i + n - 1 that are in 0 .. end - 1, on a device, whose compiler does not
  /// vectorize. Reads all arrays first, then computes in registers, then writes. The arithmetic exists once for both
  /// kinds of access.
  template <int n>
  TESSERA_HD TESSERA_ALWAYS_INLINE void pack(index_t i, index_t end) const noexcept {
    const packs::Group<n> group{i, end, 0 <= i && i + n <= end && aligned<n>(i)};
    auto gradients = group.load(gradient);
    auto parameters = group.load(weight.parameter);
    packs::Pack<State, n> states[max<std::size_t>(state_floats<Rule>, 1)];
    for (std::size_t s = 0; s < state_floats<Rule>; ++s) states[s] = group.load(state[s]);
    FusedUpdate in_registers = *this;
    in_registers.gradient = gradients.of;
    in_registers.weight.parameter = parameters.of;
    for (std::size_t s = 0; s < state_floats<Rule>; ++s) in_registers.state[s] = states[s].of;
    in_registers.weight.place += i;
    if constexpr (requires { weight.master; }) {
      auto masters = group.load(weight.master);
      in_registers.weight.master = masters.of;
      in_registers.template each<n>();
      group.store(weight.master, masters);
    } else {
      in_registers.template each<n>();
    }
    group.store(weight.parameter, parameters);
    TESSERA_UNROLL
    for (int k = 0; k < n; ++k)
      if (group.has(k) && is_not_finite(parameters.of[k])) note_non_finite(i + k);
    for (std::size_t s = 0; s < state_floats<Rule>; ++s) group.store(state[s], states[s]);
  }

  /// Scans updated parameters while they are in the cache, and records the first that is infinite or NaN.
  TESSERA_ALWAYS_INLINE void after(index_t begin, index_t end) const noexcept {
    constexpr index_t lanes = 16, lane_elements = 4 / static_cast<index_t>(sizeof(Parameter));
    std::uint32_t carries[lanes] = {};
    index_t i = begin;
    for (; end - i >= lanes * lane_elements; i += lanes * lane_elements) {
      TESSERA_INDEPENDENT
      for (index_t lane = 0; lane < lanes; ++lane) {
        std::uint32_t word;
        __builtin_memcpy(&word, weight.parameter + i + lane * lane_elements, 4);
        carries[lane] |= (word & Exponent::all) + Exponent::lowest;
      }
    }
    std::uint32_t carry = i < end ? Exponent::carry : 0;  // the remainder is tested one by one
    for (const std::uint32_t each : carries) carry |= each & Exponent::carry;
    if (carry == 0) [[likely]] return;
    for (i = begin; i < end; ++i)
      if (is_not_finite(weight.parameter[i])) return note_non_finite(i);
  }

  /// The number of this element in the tensor norms of a rule that needs them.
  TESSERA_HD TESSERA_ALWAYS_INLINE float norm_input(index_t i) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = static_cast<float>(gradient[i]) * scale;
    typename Rule::State s = load(i, std::make_index_sequence<state_floats<Rule>>{});
    const float number = rule.norm_input(weight.load(i), g, s, scalars);
    store(i, s, std::make_index_sequence<state_floats<Rule>>{});
    return number;
  }

  /// Prefetches later elements: the square root and division of a rule keep out-of-order execution from reaching them.
  TESSERA_ALWAYS_INLINE void prefetch(index_t i) const noexcept {
    exec::vector_code::prefetch_block(gradient + i);
    exec::vector_code::prefetch_block(weight.parameter + i);
    if constexpr (requires { weight.master; }) exec::vector_code::prefetch_block(weight.master + i);
    for (std::size_t s = 0; s < state_floats<Rule>; ++s) exec::vector_code::prefetch_block(state[s] + i);
  }

  /// The evaluation weight (HasEvaluationWeights).
  TESSERA_HD TESSERA_ALWAYS_INLINE float evaluated(index_t i) const noexcept {
    return rule.to_evaluation(weight.load(i), load(i, std::make_index_sequence<state_floats<Rule>>{}));
  }

 private:
  using Parameter = typename Precision::Parameter;
  using Exponent = ExponentBits<Parameter>;

  TESSERA_HD TESSERA_ALWAYS_INLINE static bool is_not_finite(const Parameter& parameter) noexcept {
    using Bits = std::conditional_t<sizeof(Parameter) == 2, std::uint16_t, std::uint32_t>;
    return (bits_as<Bits>(parameter) & static_cast<Bits>(Exponent::all)) == static_cast<Bits>(Exponent::all);
  }
  TESSERA_HD void note_non_finite(index_t i) const noexcept {
    if (first_non_finite) core::lower_to(first_non_finite, static_cast<std::uint64_t>(weight.place + i));
  }

  template <std::size_t n>
  struct Floats {
    float of[n];
  };

  template <int n>
  TESSERA_HD TESSERA_ALWAYS_INLINE bool aligned(index_t i) const noexcept {
    bool all = packs::aligned<n>(gradient + i) && packs::aligned<n>(weight.parameter + i);
    if constexpr (requires { weight.master; }) all = all && packs::aligned<n>(weight.master + i);
    for (std::size_t s = 0; s < state_floats<Rule>; ++s) all = all && packs::aligned<n>(state[s] + i);
    return all;
  }

  template <int n>
  TESSERA_HD TESSERA_ALWAYS_INLINE void each() const noexcept {
    TESSERA_UNROLL
    for (int k = 0; k < n; ++k) (*this)(k);
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float updated(index_t i) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = static_cast<float>(gradient[i]) * scale;
    typename Rule::State s = load(i, std::make_index_sequence<state_floats<Rule>>{});
    const float w = rule(weight.load(i), g, s, scalars);
    store(i, s, std::make_index_sequence<state_floats<Rule>>{});
    return w;
  }

  template <std::size_t... Member>
  TESSERA_HD TESSERA_ALWAYS_INLINE typename Rule::State load(index_t i, std::index_sequence<Member...>) const noexcept {
    if constexpr (sizeof...(Member) == 0) {
      return {};
    } else {
      const Floats<sizeof...(Member)> floats{{static_cast<float>(state[Member][i])...}};
      return bits_as<typename Rule::State>(floats);
    }
  }

  template <std::size_t... Member>
  TESSERA_HD TESSERA_ALWAYS_INLINE void store(index_t i, const typename Rule::State& s,
                                              std::index_sequence<Member...>) const noexcept {
    if constexpr (sizeof...(Member) > 0) {
      const auto floats = bits_as<Floats<sizeof...(Member)>>(s);
      ((state[Member][i] = State(floats.of[Member])), ...);
    }
  }
};

/// The numbers of an element in tensor norms: executor.add_squares_of(n, lead, WeightOf<...>{update}, sum).
template <class Rule, class Precision>
struct WeightOf {
  FusedUpdate<Rule, Precision> element;
  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(index_t i) const noexcept { return element.weight.load(i); }
};

template <class Rule, class Precision>
struct MeasuredOf {
  FusedUpdate<Rule, Precision> element;
  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(index_t i) const noexcept { return element.norm_input(i); }
};

/// Sets a parameter to the evaluation weight (HasEvaluationWeights) and changes nothing else. trained: [n], receives
/// the old parameters if they cannot be computed from the master weights.
template <class Rule, class Precision>
struct BeginEvaluation {
  using Parameter = typename Precision::Parameter;

  FusedUpdate<Rule, Precision> element;
  Parameter* trained;

  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    const float evaluated = element.evaluated(i);
    if constexpr (!precision::parameter_follows_master<Precision>) trained[i] = element.weight.parameter[i];
    element.weight.parameter[i] = FusedUpdate<Rule, Precision>::Kept::parameter_of(evaluated);
  }
};

/// Restores a parameter bit for bit.
template <class Precision>
struct EndEvaluation {
  using Parameter = typename Precision::Parameter;
  using Kept = precision::KeptWeight<Parameter, typename Precision::Master>;

  Kept weight;
  const Parameter* trained;

  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    if constexpr (precision::parameter_follows_master<Precision>)
      weight.parameter[i] = Kept::parameter_of(weight.load(i));
    else
      weight.parameter[i] = trained[i];
  }
};

}  // namespace tessera::engine
