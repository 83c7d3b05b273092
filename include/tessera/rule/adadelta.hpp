// Adadelta, as torch.optim.Adadelta: the step is scaled by the running averages of gradients and of earlier steps.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// g += weight_decay w;  square_avg = rho square_avg + (1 - rho) g^2
/// d = sqrt(acc_delta + epsilon) / sqrt(square_avg + epsilon) g;  acc_delta = rho acc_delta + (1 - rho) d^2;  w -= lr d
/// Computed with one square root of the quotient instead of a quotient of two roots: equal up to rounding.
/// Equals torch.optim.Adadelta (maximize off). With epsilon 0 no weight ever changes, since the first d is 0.
/// Source: Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method", algorithm 1.
struct Adadelta {
  double lr = 1.0;
  double rho = 0.9;
  double epsilon = 1e-6;
  double weight_decay = 0;  ///< added to the gradient (L2)

  static constexpr const char* name = "Adadelta";
  static constexpr std::array hyperparameter_names{"lr", "rho", "epsilon", "weight_decay"};

  struct State {
    float square_avg;
    float acc_delta;
  };
  static constexpr std::array<const char*, 2> state_names{"square_avg", "acc_delta"};

  struct Scalars {
    float weight_decay;
    float rho;
    float one_minus_rho;
    float epsilon;
    float lr;
  };

  TESSERA_HD Scalars scalars(index_t) const noexcept {
    return {.weight_decay = static_cast<float>(weight_decay),
            .rho = static_cast<float>(rho),
            .one_minus_rho = static_cast<float>(1 - rho),
            .epsilon = static_cast<float>(epsilon),
            .lr = static_cast<float>(lr)};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = gradient + s.weight_decay * weight;
    state.square_avg = s.rho * state.square_avg + s.one_minus_rho * g * g;
    const float delta = ::sqrtf((state.acc_delta + s.epsilon) / (state.square_avg + s.epsilon)) * g;
    state.acc_delta = s.rho * state.acc_delta + s.one_minus_rho * delta * delta;
    return weight - s.lr * delta;
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(rho >= 0 && rho < 1, name, "rho", rho, "in [0, 1)");
    require_not_negative(name, "epsilon", epsilon);
    require_not_negative(name, "weight_decay", weight_decay);
  }
};

}  // namespace tessera
