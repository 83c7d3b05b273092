// LARS: stochastic gradient descent with momentum and a trust ratio per tensor, for large batches.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// rate = lr trust_coefficient |w| / (|g| + weight_decay |w|), the norms over the whole tensor; lr where either is 0
/// b = momentum b + rate (g + weight_decay w);  w -= b
/// Source: You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional Networks", algorithm 1.
struct Lars {
  double lr = 0.1;
  double momentum = 0.9;
  double weight_decay = 0;
  double trust_coefficient = 1e-3;

  static constexpr const char* name = "Lars";
  static constexpr std::array hyperparameter_names{"lr", "momentum", "weight_decay", "trust_coefficient"};

  struct State {
    float momentum_buffer;
  };
  static constexpr std::array<const char*, 1> state_names{"momentum_buffer"};

  struct Scalars {
    float momentum;
    float weight_decay;
    float rate;
  };

  TESSERA_HD Scalars scalars(index_t) const noexcept {
    return {.momentum = static_cast<float>(momentum),
            .weight_decay = static_cast<float>(weight_decay),
            .rate = static_cast<float>(lr)};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float norm_input(float, float gradient, State&, const Scalars&) const noexcept {
    return gradient;
  }

  TESSERA_HD Scalars with_trust_ratio(Scalars s, double weight_norm, double gradient_norm) const noexcept {
    if (weight_norm > 0 && gradient_norm > 0)
      s.rate =
          static_cast<float>(lr * (trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm)));
    return s;
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    state.momentum_buffer = s.momentum * state.momentum_buffer + s.rate * (gradient + s.weight_decay * weight);
    return weight - state.momentum_buffer;
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(momentum >= 0 && momentum < 1, name, "momentum", momentum, "in [0, 1)");
    require_not_negative(name, "weight_decay", weight_decay);
    require_not_negative(name, "trust_coefficient", trust_coefficient);
  }
};

}  // namespace tessera
