// Adam with decoupled weight decay, as torch.optim.AdamW.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// w *= 1 - lr weight_decay;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
/// w -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// Numerator and denominator are both multiplied by sqrt(1 - beta2^t), which saves one division per element (Kingma and
/// Ba 2015, end of section 2) and is equal up to rounding.
/// Equals torch.optim.AdamW (amsgrad and maximize off): epsilon is added after the bias correction.
/// Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
struct AdamW {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  ///< multiplies the weight by 1 - lr * weight_decay per step (decoupled)

  static constexpr const char* name = "AdamW";
  static constexpr std::array hyperparameter_names{"lr", "beta1", "beta2", "epsilon", "weight_decay"};

  struct State {
    float exp_avg;
    float exp_avg_sq;
  };
  static constexpr std::array<const char*, 2> state_names{"exp_avg", "exp_avg_sq"};

  struct Scalars {
    float shrink;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float step_size;  // lr sqrt(1 - beta2^t) / (1 - beta1^t)
    float epsilon;    // epsilon sqrt(1 - beta2^t)
  };

  TESSERA_HD Scalars scalars(index_t step) const noexcept {
    const double t = static_cast<double>(step);
    const double root = ::sqrt(1 - ::pow(beta2, t));
    return {.shrink = static_cast<float>(1 - lr * weight_decay),
            .one_minus_beta1 = static_cast<float>(1 - beta1),
            .beta2 = static_cast<float>(beta2),
            .one_minus_beta2 = static_cast<float>(1 - beta2),
            .step_size = static_cast<float>(lr * root / (1 - ::pow(beta1, t))),
            .epsilon = static_cast<float>(epsilon * root)};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    state.exp_avg = state.exp_avg + s.one_minus_beta1 * (gradient - state.exp_avg);
    state.exp_avg_sq = s.beta2 * state.exp_avg_sq + s.one_minus_beta2 * gradient * gradient;
    return weight * s.shrink - s.step_size * state.exp_avg / (::sqrtf(state.exp_avg_sq) + s.epsilon);
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(beta1 >= 0 && beta1 < 1, name, "beta1", beta1, "in [0, 1)");
    require_option(beta2 >= 0 && beta2 < 1, name, "beta2", beta2, "in [0, 1)");
    require_not_negative(name, "epsilon", epsilon);
    require_not_negative(name, "weight_decay", weight_decay);
  }
};

}  // namespace tessera
