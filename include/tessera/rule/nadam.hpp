// NAdam, as torch.optim.NAdam: Adam with Nesterov momentum and a warm-up of the momentum.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// g += weight_decay w;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
/// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2);  p_t = mu_1 mu_2 ... mu_t
/// w -= lr ((1 - mu_t) / (1 - p_t) g + mu_(t+1) / (1 - p_(t+1)) m) / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// Numerator and denominator are both multiplied by sqrt(1 - beta2^t), as in Adam. p_t is computed from the step and is
/// not state. So a change of beta1 or momentum_decay acts as if it had the new value from the start, unlike in PyTorch.
/// Equals torch.optim.NAdam (decoupled_weight_decay and maximize off): epsilon is added after the bias correction.
/// Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam", algorithm 2.
struct NAdam {
  double lr = 2e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< added to the gradient (L2)
  double momentum_decay = 4e-3;

  static constexpr const char* name = "NAdam";
  static constexpr std::array hyperparameter_names{"lr", "beta1", "beta2", "epsilon", "weight_decay", "momentum_decay"};

  struct State {
    float exp_avg;
    float exp_avg_sq;
  };
  static constexpr std::array<const char*, 2> state_names{"exp_avg", "exp_avg_sq"};

  struct Scalars {
    float weight_decay;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float gradient_size;  // lr sqrt(1 - beta2^t) (1 - mu_t) / (1 - p_t)
    float momentum_size;  // lr sqrt(1 - beta2^t) mu_(t+1) / (1 - p_(t+1))
    float epsilon;        // epsilon sqrt(1 - beta2^t)
  };

  TESSERA_HD Scalars scalars(index_t step) const noexcept {
    const double t = static_cast<double>(step);
    const double root = ::sqrt(1 - ::pow(beta2, t));
    const double next = momentum(t + 1);
    const double product = momentum_product(step);
    return {.weight_decay = static_cast<float>(weight_decay),
            .one_minus_beta1 = static_cast<float>(1 - beta1),
            .beta2 = static_cast<float>(beta2),
            .one_minus_beta2 = static_cast<float>(1 - beta2),
            .gradient_size = static_cast<float>(lr * root * (1 - momentum(t)) / (1 - product)),
            .momentum_size = static_cast<float>(lr * root * next / (1 - product * next)),
            .epsilon = static_cast<float>(epsilon * root)};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = gradient + s.weight_decay * weight;
    state.exp_avg = state.exp_avg + s.one_minus_beta1 * (g - state.exp_avg);
    state.exp_avg_sq = s.beta2 * state.exp_avg_sq + s.one_minus_beta2 * g * g;
    return weight - (s.gradient_size * g + s.momentum_size * state.exp_avg) / (::sqrtf(state.exp_avg_sq) + s.epsilon);
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(beta1 >= 0 && beta1 < 1, name, "beta1", beta1, "in [0, 1)");
    require_option(beta2 >= 0 && beta2 < 1, name, "beta2", beta2, "in [0, 1)");
    require_not_negative(name, "epsilon", epsilon);
    require_not_negative(name, "weight_decay", weight_decay);
    require_not_negative(name, "momentum_decay", momentum_decay);
  }

 private:
  // 0.96^(t momentum_decay) / 2: the fraction of beta1 that the warm-up removes.
  TESSERA_HD double held_back(double t) const noexcept { return 0.5 * ::pow(0.96, t * momentum_decay); }

  TESSERA_HD double momentum(double t) const noexcept { return beta1 * (1 - held_back(t)); }

  // Stops early, for two reasons. A product below 2^-60 does not change 1 - product. And after the warm-up (held_back
  // below 2^-54) the remaining factors are beta1. One of the two occurs within a few thousand iterations for every
  // step: a longer warm-up makes the product small.
  TESSERA_HD double momentum_product(index_t step) const noexcept {
    double product = 1;
    for (index_t i = 1; i <= step && product >= 0x1p-60; ++i) {
      const double t = static_cast<double>(i);
      if (held_back(t) < 0x1p-54) return product * ::pow(beta1, static_cast<double>(step - i + 1));
      product *= momentum(t);
    }
    return product;
  }
};

}  // namespace tessera
