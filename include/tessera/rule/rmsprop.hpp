// RMSprop, as torch.optim.RMSprop without centering and momentum: the gradient divided by the root of its mean square.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// g += weight_decay w;  square_avg = alpha square_avg + (1 - alpha) g^2;  w -= lr g / (sqrt(square_avg) + epsilon)
/// Equals torch.optim.RMSprop (centered, momentum and maximize off). Centering and momentum would each need one more
/// float per element, also for users who do not use them. They can be rules of their own.
/// Source: Tieleman and Hinton 2012, "Lecture 6.5 - RMSProp", Coursera: Neural Networks for Machine Learning.
struct RMSprop {
  double lr = 1e-2;
  double alpha = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< added to the gradient (L2)

  static constexpr const char* name = "RMSprop";
  static constexpr std::array hyperparameter_names{"lr", "alpha", "epsilon", "weight_decay"};

  struct State {
    float square_avg;
  };
  static constexpr std::array<const char*, 1> state_names{"square_avg"};

  struct Scalars {
    float weight_decay;
    float alpha;
    float one_minus_alpha;
    float lr;
    float epsilon;
  };

  TESSERA_HD Scalars scalars(index_t) const noexcept {
    return {.weight_decay = static_cast<float>(weight_decay),
            .alpha = static_cast<float>(alpha),
            .one_minus_alpha = static_cast<float>(1 - alpha),
            .lr = static_cast<float>(lr),
            .epsilon = static_cast<float>(epsilon)};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = gradient + s.weight_decay * weight;
    state.square_avg = s.alpha * state.square_avg + s.one_minus_alpha * g * g;
    return weight - s.lr * g / (::sqrtf(state.square_avg) + s.epsilon);
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(alpha >= 0 && alpha < 1, name, "alpha", alpha, "in [0, 1)");
    require_not_negative(name, "epsilon", epsilon);
    require_not_negative(name, "weight_decay", weight_decay);
  }
};

}  // namespace tessera
