// Stochastic gradient descent with momentum, as torch.optim.SGD.
#pragma once

#include <array>
#include <limits>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// g += weight_decay w;  b = g in step 1, then momentum b + (1 - dampening) g;  w -= lr d
/// d = g without momentum, g + momentum b with nesterov, else b.
/// Equals torch.optim.SGD, with one exception: momentum that is switched on after the first step starts from b = 0, not
/// from b = g. Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
struct Sgd {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;  ///< added to the gradient (L2)
  bool nesterov = false;

  static constexpr const char* name = "Sgd";
  static constexpr std::array hyperparameter_names{"lr", "momentum", "dampening", "weight_decay", "nesterov"};

  struct State {
    float momentum_buffer;
  };
  static constexpr std::array<const char*, 1> state_names{"momentum_buffer"};

  struct Scalars {
    float weight_decay;
    float keep;      // factor of the old buffer
    float add;       // factor of the gradient in the buffer: 1 in the first step, 0 without momentum
    float gradient;  // direction = gradient * g + buffer * b
    float buffer;
    float lr;
  };

  TESSERA_HD Scalars scalars(index_t step) const noexcept {
    const bool on = momentum != 0;
    const bool first = step <= 1;
    return {.weight_decay = static_cast<float>(weight_decay),
            .keep = static_cast<float>(first ? 0 : momentum),
            .add = static_cast<float>(!on     ? 0
                                      : first ? 1
                                              : 1 - dampening),
            .gradient = !on || nesterov ? 1.0f : 0.0f,
            .buffer = static_cast<float>(!on        ? 0
                                         : nesterov ? momentum
                                                    : 1),
            .lr = static_cast<float>(lr)};
  }

  // Factors of 0 and 1 instead of branches, which would prevent g++ -O2 from vectorizing. They are exact for finite
  // values, up to the sign of a zero; a weight that has overflowed becomes NaN one step earlier.
  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = gradient + s.weight_decay * weight;
    const float b = s.keep * state.momentum_buffer + s.add * g;
    state.momentum_buffer = b;
    return weight - s.lr * (s.gradient * g + s.buffer * b);
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_not_negative(name, "momentum", momentum);
    constexpr double most = std::numeric_limits<float>::max();
    require_option(dampening >= -most && dampening <= most, name, "dampening", dampening, "finite");
    require_not_negative(name, "weight_decay", weight_decay);
    require_option(!nesterov || momentum > 0, name, "momentum", momentum, "above 0 with nesterov");
    require_option(!nesterov || dampening == 0, name, "dampening", dampening, "0 with nesterov");
  }
};

}  // namespace tessera
