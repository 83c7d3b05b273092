// Lion: moves each weight by the sign of a momentum. It has half of Adam's state.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// c = beta1 m + (1 - beta1) g;  w -= lr (sign(c) + weight_decay w);  m = beta2 m + (1 - beta2) g
/// The sign of 0 is 0. PyTorch has no Lion; the defaults are those of the authors' code. Every element moves by lr, so
/// use an lr 3 to 10 times smaller than for AdamW, and a weight_decay larger by the same factor (the paper, section 5).
/// Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2.
struct Lion {
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0;  ///< multiplies the weight by 1 - lr * weight_decay per step (decoupled)

  static constexpr const char* name = "Lion";
  static constexpr std::array hyperparameter_names{"lr", "beta1", "beta2", "weight_decay"};

  struct State {
    float exp_avg;
  };
  static constexpr std::array<const char*, 1> state_names{"exp_avg"};

  struct Scalars {
    float shrink;
    float beta1;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float lr;
  };

  TESSERA_HD Scalars scalars(index_t) const noexcept {
    return {.shrink = static_cast<float>(1 - lr * weight_decay),
            .beta1 = static_cast<float>(beta1),
            .one_minus_beta1 = static_cast<float>(1 - beta1),
            .beta2 = static_cast<float>(beta2),
            .one_minus_beta2 = static_cast<float>(1 - beta2),
            .lr = static_cast<float>(lr)};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float c = s.beta1 * state.exp_avg + s.one_minus_beta1 * gradient;
    const float sign = static_cast<float>((c > 0) - (c < 0));
    state.exp_avg = s.beta2 * state.exp_avg + s.one_minus_beta2 * gradient;
    return weight * s.shrink - s.lr * sign;
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(beta1 >= 0 && beta1 < 1, name, "beta1", beta1, "in [0, 1)");
    require_option(beta2 >= 0 && beta2 < 1, name, "beta2", beta2, "in [0, 1)");
    require_not_negative(name, "weight_decay", weight_decay);
  }
};

}  // namespace tessera
