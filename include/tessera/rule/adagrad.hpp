// Adagrad, as torch.optim.Adagrad: a learning rate per element that falls with the sum of its squared gradients.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// g += weight_decay w;  sum += g^2, from initial_accumulator_value
/// w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + epsilon)
/// Equals torch.optim.Adagrad (maximize off). State is zero before the first step, which adds the initial value.
/// Source: Duchi et al. 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", figure 1
/// with the diagonal matrix.
struct Adagrad {
  double lr = 1e-2;
  double lr_decay = 0;
  double weight_decay = 0;  ///< added to the gradient (L2)
  double initial_accumulator_value = 0;
  double epsilon = 1e-10;

  static constexpr const char* name = "Adagrad";
  static constexpr std::array hyperparameter_names{"lr", "lr_decay", "weight_decay",
                                                   "initial_accumulator_value", "epsilon"};

  struct State {
    float sum;
  };
  static constexpr std::array<const char*, 1> state_names{"sum"};

  struct Scalars {
    float weight_decay;
    float start;      // the initial value in the first step, 0 in later steps
    float step_size;  // lr / (1 + (t - 1) lr_decay)
    float epsilon;
  };

  TESSERA_HD Scalars scalars(index_t step) const noexcept {
    const double before = static_cast<double>(step) - 1;
    return {.weight_decay = static_cast<float>(weight_decay),
            .start = static_cast<float>(step <= 1 ? initial_accumulator_value : 0),
            .step_size = static_cast<float>(lr / (1 + before * lr_decay)),
            .epsilon = static_cast<float>(epsilon)};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = gradient + s.weight_decay * weight;
    state.sum = state.sum + s.start + g * g;
    return weight - s.step_size * g / (::sqrtf(state.sum) + s.epsilon);
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_not_negative(name, "lr_decay", lr_decay);
    require_not_negative(name, "weight_decay", weight_decay);
    require_not_negative(name, "initial_accumulator_value", initial_accumulator_value);
    require_not_negative(name, "epsilon", epsilon);
  }
};

}  // namespace tessera
