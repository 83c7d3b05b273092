// AdamW without a learning-rate schedule: it averages the weights instead.
#pragma once

#include <array>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// Three sequences of weights: z takes the steps; x, the average of z, is evaluated; y lies between them, and gradients
/// are computed at y. The weight is y, and the state is ahead = z - x, so that x = y - (1 - beta1) ahead.
///   v = beta2 v + (1 - beta2) g^2;   b = 1 - beta2^t;   eta = lr min(1, t / warmup_steps)
///   paper     z -= gamma (g / (sqrt(v) + epsilon) + weight_decay y), gamma = eta sqrt(b);   weight_t = gamma^2
///   package   z -= eta (g / (sqrt(v / b) + epsilon) + weight_decay y);                      weight_t = eta^2
///   c = weight_t / (weight_1 + ... + weight_t);   x += c (z - x);   y = (1 - beta1) z + beta1 x
/// The package therefore decays weights at the full rate from the first step on, adds epsilon after the bias
/// correction, and gives early steps more weight in the average.
/// beta1 must not change, since ahead depends on it (validate_change). c is computed from the step and is not state: a
/// change of lr, beta2 or warmup_steps weights the average as if it had the new value from the start.
/// Evaluate and save between Sharded's begin_evaluation() and end_evaluation(), where gathers return x.
/// Not in PyTorch. Source: Defazio et al. 2024, "The Road Less Scheduled", algorithm 1; and the authors' package
/// schedulefree 1.4.1, AdamWScheduleFree with r = 0 and weight_lr_power = 2. Its largest rate so far is eta.
struct ScheduleFreeAdamW {
  enum class Variant { paper, package };

  double lr = 2.5e-3;
  double beta1 = 0.9;  ///< how close y is to the average x
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  index_t warmup_steps = 0;  ///< eta grows linearly to lr in these steps
  Variant variant = Variant::paper;

  static constexpr const char* name = "ScheduleFreeAdamW";
  static constexpr std::array hyperparameter_names{"lr",           "beta1",        "beta2",  "epsilon",
                                                   "weight_decay", "warmup_steps", "variant"};

  struct State {
    float ahead;
    float exp_avg_sq;
  };
  static constexpr std::array<const char*, 2> state_names{"ahead", "exp_avg_sq"};

  struct Scalars {
    float beta1;
    float beta2;
    float one_minus_beta2;
    float step_size;
    float epsilon;
    float weight_decay;
    float left_ahead;  // 1 - c
  };

  TESSERA_HD Scalars scalars(index_t step) const noexcept {
    const double root = ::sqrt(1 - ::pow(beta2, static_cast<double>(step)));
    // eta (g / (sqrt(v) / root + epsilon) + weight_decay y), with root factored out.
    const double correction = variant == Variant::package ? root : 1;
    return {.beta1 = static_cast<float>(beta1),
            .beta2 = static_cast<float>(beta2),
            .one_minus_beta2 = static_cast<float>(1 - beta2),
            .step_size = static_cast<float>(lr * warmth(step) * root),
            .epsilon = static_cast<float>(epsilon * correction),
            .weight_decay = static_cast<float>(weight_decay / correction),
            .left_ahead = static_cast<float>(1 - share(step))};
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE float operator()(float weight, float gradient, State& state,
                                                    const Scalars& s) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    state.exp_avg_sq = s.beta2 * state.exp_avg_sq + s.one_minus_beta2 * gradient * gradient;
    const float move = s.step_size * (gradient / (::sqrtf(state.exp_avg_sq) + s.epsilon) + s.weight_decay * weight);
    const float ahead = s.left_ahead * (state.ahead - move);
    const float next = weight + (s.beta1 * (state.ahead - ahead) - move);
    state.ahead = ahead;
    return next;
  }

  /// x, computed from y.
  TESSERA_HD TESSERA_ALWAYS_INLINE float to_evaluation(float weight, const State& state) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    return weight - static_cast<float>(1 - beta1) * state.ahead;
  }

  /// Throws OptionError.
  void validate() const {
    require_not_negative(name, "lr", lr);
    require_option(beta1 >= 0 && beta1 < 1, name, "beta1", beta1, "in [0, 1)");
    require_option(beta2 >= 0 && beta2 < 1, name, "beta2", beta2, "in [0, 1)");
    require_not_negative(name, "epsilon", epsilon);
    require_not_negative(name, "weight_decay", weight_decay);
    require_option(warmup_steps >= 0 && warmup_steps <= most_warmup_steps, name, "warmup_steps",
                   static_cast<double>(warmup_steps), "in [0, 1e6]");
  }
  void validate_change(const ScheduleFreeAdamW& first) const { require_unchanged(name, "beta1", beta1, first.beta1); }

 private:
  // Every step sums over the warm-up steps.
  static constexpr index_t most_warmup_steps = 1'000'000;

  TESSERA_HD double warmth(index_t step) const noexcept {
    return step < warmup_steps ? static_cast<double>(step) / static_cast<double>(warmup_steps) : 1.0;
  }

  // weight_t / lr^2. The package has no factor 1 - beta2^t.
  TESSERA_HD double relative_weight(index_t step, double power) const noexcept {
    return warmth(step) * warmth(step) * (variant == Variant::package ? 1 : 1 - power);
  }

  // c. After the warm-up the sum of the weights has a closed form, a geometric series.
  TESSERA_HD double share(index_t step) const noexcept {
    double sum = 0, power = 1;
    const index_t warming = min(step, warmup_steps);
    for (index_t i = 1; i <= warming; ++i) {
      power *= beta2;
      sum += relative_weight(i, power);
    }
    const auto rest = static_cast<double>(step - warming);
    sum += rest;
    if (variant == Variant::paper) sum -= power * beta2 * (1 - ::pow(beta2, rest)) / (1 - beta2);
    return relative_weight(step, ::pow(beta2, static_cast<double>(step))) / sum;
  }
};

}  // namespace tessera
