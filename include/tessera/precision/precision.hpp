// Which type each number of a step has. No code: types and names.
#pragma once

#include <concepts>
#include <type_traits>

#include <tessera/core/bfloat16.hpp>

namespace tessera {

/// A type that a buffer may have: converts to float, and from float with one rounding.
template <class T>
concept Element = std::is_trivially_copyable_v<T> && std::convertible_to<T, float> && std::constructible_from<T, float>;

/// Parameter: what the model reads and what is gathered. Gradient: what backward writes and what is reduced.
/// Reduction: what the sum over ranks and passes is rounded to, once. Master: what the rule updates.
template <class P>
concept PrecisionPolicy = requires {
  typename P::Parameter;
  typename P::Gradient;
  typename P::Reduction;
  typename P::Master;
  { P::name } -> std::convertible_to<const char*>;
} && Element<typename P::Parameter> && Element<typename P::Gradient> && Element<typename P::Reduction> &&
    std::same_as<typename P::Master, float>;

/// Everything in float; the parameter is the master weight.
struct Fp32 {
  static constexpr const char* name = "Fp32";
  using Parameter = float;
  using Gradient = float;
  using Reduction = float;
  using Master = float;
};

/// bfloat16 parameters and gradients, on the wire too; sums and master weights in float.
struct Bf16 {
  static constexpr const char* name = "Bf16";
  using Parameter = bfloat16;
  using Gradient = bfloat16;
  using Reduction = bfloat16;
  using Master = float;
};

}  // namespace tessera
