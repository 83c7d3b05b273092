// LAMB: Adam with a trust ratio per tensor, for large batches.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
/// r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + weight_decay w
/// w -= lr |w| / |r| r, the norms over the whole tensor; |w| / |r| counts as 1 where either is 0
/// Source: You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", algorithm 2,
/// with phi(x) = x.
struct Lamb {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-6;
  double weight_decay = 0;

  static constexpr const char* name = "Lamb";
  static constexpr std::array hyperparameter_names{"lr", "beta1", "beta2", "epsilon", "weight_decay"};

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
    float momentum_size;  // sqrt(1 - beta2^t) / (1 - beta1^t)
    float epsilon;        // epsilon sqrt(1 - beta2^t)
    float step_size;      // lr, times |w| / |r| once these are known
  };

  TESSERA_HD Scalars scalars(index_t step) const noexcept {
    const double t = static_cast<double>(step);
    const double root = ::sqrt(1 - ::pow(beta2, t));
    return {.weight_decay = static_cast<float>(weight_decay),
            .one_minus_beta1 = static_cast<float>(1 - beta1),
            .beta2 = static_cast<float>(beta2),
            .one_minus_beta2 = static_cast<float>(1 - beta2),
            .momentum_size = static_cast<float>(root / (1 - ::pow(beta1, t))),
            .epsilon = static_cast<float>(epsilon * root),
            .step_size = static_cast<float>(lr)};
  }

  /// r, computed from the moments after this gradient is added to them.
  TESSERA_HD TESSERA_ALWAYS_INLINE float norm_input(float weight, float gradient, State& state,
                                                  const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    state.exp_avg = state.exp_avg + s.one_minus_beta1 * (gradient - state.exp_avg);
    state.exp_avg_sq = s.beta2 * state.exp_avg_sq + s.one_minus_beta2 * gradient * gradient;
    return direction(weight, state, s);
  }

  TESSERA_HD Scalars with_trust_ratio(Scalars s, double weight_norm, double input_norm) const noexcept {
    if (weight_norm > 0 && input_norm > 0) s.step_size = static_cast<float>(lr * (weight_norm / input_norm));
    return s;
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    return weight - s.step_size * direction(weight, state, s);
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(beta1 >= 0 && beta1 < 1, name, "beta1", beta1, "in [0, 1)");
    require_option(beta2 >= 0 && beta2 < 1, name, "beta2", beta2, "in [0, 1)");
    require_not_negative(name, "epsilon", epsilon);
    require_not_negative(name, "weight_decay", weight_decay);
  }

 private:
  TESSERA_HD TESSERA_ALWAYS_INLINE static float direction(float weight, const State& state, const Scalars& s) noexcept {
    TESSERA_ROUND_EACH_OPERATION
    return s.momentum_size * state.exp_avg / (::sqrtf(state.exp_avg_sq) + s.epsilon) + s.weight_decay * weight;
  }
};

}  // namespace tessera
