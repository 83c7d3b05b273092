// RAdam, as torch.optim.RAdam: Adam that uses momentum only while its second moment has too few samples.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// g += weight_decay w;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
/// R = 2 / (1 - beta2) - 1;  r_t = R - 2 t beta2^t / (1 - beta2^t)
/// if r_t > 5:  w -= lr / (1 - beta1^t) rectification m sqrt(1 - beta2^t) / (sqrt(v) + epsilon), where
///              rectification^2 = (r_t - 4) (r_t - 2) R / ((R - 4) (R - 2) r_t)
/// else:        w -= lr / (1 - beta1^t) m
/// Equals torch.optim.RAdam (maximize off): epsilon is added before the bias correction.
/// Source: Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond", algorithm 2.
struct RAdam {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< added to the gradient (L2)

  static constexpr const char* name = "RAdam";
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
    float step_size;
    float root;   // the denominator is root sqrt(v) + plain: 1 and epsilon if rectified,
    float plain;  // 0 and 1 while the step uses momentum only
  };

  TESSERA_HD Scalars scalars(index_t step) const noexcept {
    const double t = static_cast<double>(step);
    const double power = ::pow(beta2, t);
    const double most = 2 / (1 - beta2) - 1;
    const double length = most - 2 * t * power / (1 - power);
    const bool rectified = length > 5;  // implies most > 5
    const double size = lr / (1 - ::pow(beta1, t));
    const double variance = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length);
    return {.weight_decay = static_cast<float>(weight_decay),
            .one_minus_beta1 = static_cast<float>(1 - beta1),
            .beta2 = static_cast<float>(beta2),
            .one_minus_beta2 = static_cast<float>(1 - beta2),
            .step_size = static_cast<float>(rectified ? size * ::sqrt(variance * (1 - power)) : size),
            .root = rectified ? 1.0f : 0.0f,
            .plain = static_cast<float>(rectified ? epsilon : 1)};
  }

  // Factors of 0 and 1 instead of a branch, as in Sgd. They are exact for finite values; if v has overflowed, the
  // weight becomes NaN also while the step uses momentum only.
  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = gradient + s.weight_decay * weight;
    state.exp_avg = state.exp_avg + s.one_minus_beta1 * (g - state.exp_avg);
    state.exp_avg_sq = s.beta2 * state.exp_avg_sq + s.one_minus_beta2 * g * g;
    return weight - s.step_size * state.exp_avg / (s.root * ::sqrtf(state.exp_avg_sq) + s.plain);
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
