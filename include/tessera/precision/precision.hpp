// The type of each kind of number in a step. Types and names only, no code.
#pragma once

#include <concepts>
#include <type_traits>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/precision/kept_weight.hpp>

namespace tessera {

/// A type that a buffer may have: 1, 2, 4 or 8 bytes; converts to float, and from float with one rounding; zero bytes
/// are the value zero. (Integers are excluded: they would drop the fraction, and have no NaN.)
template <class T>
concept Element =
    std::same_as<T, std::remove_cv_t<T>> && std::is_trivially_copyable_v<T> && std::default_initializable<T> &&
    std::convertible_to<T, float> && std::constructible_from<T, float> && !std::integral<T> &&
    (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);

/// An Element of 2 or 4 bytes. Ranks can compare their weights bit by bit only in these sizes.
template <class T>
concept ParameterElement = Element<T> &&(sizeof(T) == 2 || sizeof(T) == 4);

/// The types of a step:
///   Parameter   what the model reads and what is gathered
///   Gradient    what backward writes and what is reduced
///   Reduction   what the sum over ranks and passes is rounded to, once; the sum itself is formed in float
///   Master      what is stored beside the parameter, so that the rule has a float: float, Remainder or NoMaster
///   State       what the rule's state is stored in
/// Optional: scales_loss = true scales the loss (Options::loss_scale). A user's policy derives from one of these and
/// changes what differs.
template <class P>
concept PrecisionPolicy = requires {
  typename P::Parameter;
  typename P::Gradient;
  typename P::Reduction;
  typename P::Master;
  typename P::State;
  { P::name } -> std::convertible_to<const char*>;
  sizeof(precision::KeptWeight<typename P::Parameter, typename P::Master>);
}
&&ParameterElement<typename P::Parameter>&& Element<typename P::Gradient>&& Element<typename P::Reduction>&&
    Element<typename P::State>;

template <class P>
inline constexpr bool scales_loss = requires {
  requires P::scales_loss;
};

namespace precision {

/// Bytes stored beside a parameter.
template <class P>
inline constexpr int master_bytes = std::is_same_v<typename P::Parameter, float> || std::is_empty_v<typename P::Master>
                                        ? 0
                                        : sizeof(typename P::Master);

/// Whether the parameter is a function of the master weight alone, so that it can be computed again.
template <class P>
inline constexpr bool parameter_follows_master =
    std::is_same_v<typename P::Master, float> && !std::is_same_v<typename P::Parameter, float>;

}  // namespace precision

/// All types are float; the parameter is the master weight.
struct Fp32 {
  static constexpr const char* name = "Fp32";
  using Parameter = float;
  using Gradient = float;
  using Reduction = float;
  using Master = float;
  using State = float;
};

/// bfloat16 parameters and gradients, also in collectives; float sums and master weights.
struct Bf16 : Fp32 {
  static constexpr const char* name = "Bf16";
  using Parameter = bfloat16;
  using Gradient = bfloat16;
  using Reduction = bfloat16;
};

/// Bf16 whose gradients are not rounded again after the sum: 2 more bytes per owned element.
struct Bf16ReduceFp32 : Bf16 {
  static constexpr const char* name = "Bf16ReduceFp32";
  using Reduction = float;
};

/// Bf16 with 2 extra bytes per parameter instead of 4, and exactly the same float weights. Parameters differ from those
/// of Bf16 only at exact ties, which are rounded away from zero.
/// Source: Apex's distributed fused Adam, store_param_remainders.
struct Bf16Remainder : Bf16 {
  static constexpr const char* name = "Bf16Remainder";
  using Master = Remainder;
};

/// bfloat16 without a master weight: stochastic rounding of each update keeps small updates on average. The random bits
/// depend only on Options::seed, the step and the element's offset.
/// Source: Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", section 3.1, equation for stochastic
/// rounding.
struct Bf16Stochastic : Bf16 {
  static constexpr const char* name = "Bf16Stochastic";
  using Master = NoMaster;
};

/// float16 parameters and gradients, float master weights. The loss is scaled, since small gradients would underflow.
/// Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.
struct Fp16 : Fp32 {
  static constexpr const char* name = "Fp16";
  static constexpr bool scales_loss = true;
  using Parameter = float16;
  using Gradient = float16;
  using Reduction = float16;
};

/// Fp16 whose gradients are not rounded again after the sum: 2 more bytes per owned element.
struct Fp16ReduceFp32 : Fp16 {
  static constexpr const char* name = "Fp16ReduceFp32";
  using Reduction = float;
};

}  // namespace tessera
