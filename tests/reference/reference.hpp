// One training step, plain and serial: the reference for the library's bits. It shares and includes no code of the
// library. Speed does not matter. No operation may be fused, whatever the compiler flags of the test.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif

namespace reference {

// ---- numbers

/// Rounds to the nearest bf16, ties to even, as a float.
inline float to_bf16(float x) {
  if (std::isnan(x)) return x;
  const auto bits = std::bit_cast<std::uint32_t>(x);
  std::uint32_t high = bits & 0xffff0000u;
  const std::uint32_t low = bits & 0x0000ffffu;
  const bool odd = (high & 0x00010000u) != 0;
  if (low > 0x8000u || (low == 0x8000u && odd)) high += 0x00010000u;
  return std::bit_cast<float>(high);
}

/// Rounds to the nearest bf16, ties away from zero, as a float.
inline float to_bf16_away(float x) {
  if (std::isnan(x)) return x;
  const auto bits = std::bit_cast<std::uint32_t>(x);
  std::uint32_t high = bits & 0xffff0000u;
  if ((bits & 0x0000ffffu) >= 0x8000u) high += 0x00010000u;
  return std::bit_cast<float>(high);
}

/// Rounds to the nearest float16, ties to even, as a float: divides by float16's spacing there and rounds to an
/// integer.
inline float to_fp16(float x) {
  if (!std::isfinite(x) || x == 0) return x;
  const int exponent = std::max(std::ilogb(x), -14);
  const double spacing = std::ldexp(1.0, exponent - 10);
  const double rounded = std::nearbyint(static_cast<double>(x) / spacing) * spacing;  // exact except for nearbyint
  if (std::fabs(rounded) > 65504) return x > 0 ? HUGE_VALF : -HUGE_VALF;
  return std::copysign(static_cast<float>(rounded), x);
}

/// Random bits for stochastic rounding, a function of seed, step and place (core/random.hpp).
inline std::uint32_t random_bits(std::uint64_t seed, int step, std::uint64_t place) {
  const auto mixed = [](std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  };
  const auto scrambled = [](std::uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
  };
  const std::uint64_t golden = 0x9e3779b97f4a7c15u;
  const std::uint64_t key = mixed(mixed(seed + golden) + static_cast<std::uint64_t>(step) * golden);
  const auto high = static_cast<std::uint32_t>(place >> 32);
  const std::uint32_t first = scrambled(static_cast<std::uint32_t>(place) ^ static_cast<std::uint32_t>(key));
  return scrambled(first + (static_cast<std::uint32_t>(key >> 32) ^ high * 0x9e3779b9u));
}

inline float to_bf16_at_random(float x, std::uint32_t random) {
  if (std::isnan(x)) return x;
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + (random & 0xffffu)) & 0xffff0000u);
}

/// DeepSpeed's dynamic loss scale.
struct LossScale {
  double scale = 1;
  int window = 1000, hysteresis = 2;
  int left = 2, clean = 0;

  void step(bool overflow) {
    if (overflow) {
      clean = 0;
      if (left > 1)
        --left;
      else
        scale = std::max(scale / 2, 1.0);
    } else if (++clean % window == 0) {
      left = hysteresis;
      scale *= 2;
    }
  }
};

/// The exact sum of finite, non-negative numbers, rounded once to nearest even. A number is mantissa * 2^exponent. The
/// total is a binary integer in units of 2^-1074, one bit per vector element.
inline double exact_sum(const std::vector<double>& values) {
  std::vector<int> bit(2300, 0);
  for (const double value : values) {
    const auto word = std::bit_cast<std::uint64_t>(value);
    const auto field = static_cast<std::size_t>(word >> 52);
    std::uint64_t mantissa = word & ((std::uint64_t{1} << 52) - 1);
    if (field != 0) mantissa |= std::uint64_t{1} << 52;
    int carry = 0;
    for (std::size_t at = field == 0 ? 0 : field - 1; mantissa != 0 || carry != 0; ++at, mantissa >>= 1) {
      const int sum = bit[at] + static_cast<int>(mantissa & 1) + carry;
      bit[at] = sum % 2;
      carry = sum / 2;
    }
  }
  int top = static_cast<int>(bit.size()) - 1;
  while (top >= 0 && bit[top] == 0) --top;
  const int last = std::max(top - 52, 0);  // the lowest of the 53 bits of a double
  double kept = 0;
  for (int at = top; at >= last; --at) kept = kept * 2 + bit[at];
  if (last > 0 && bit[last - 1] == 1) {
    bool above_half = false;
    for (int at = 0; at < last - 1; ++at) above_half = above_half || bit[at] == 1;
    if (above_half || bit[last] == 1) kept += 1;
  }
  return std::ldexp(kept, last - 1074);
}

// ---- the tree sum

using Floats = std::vector<float>;

inline Floats added(const Floats& left, const Floats& right) {
  Floats sum(left.size());
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = left[i] + right[i];
  return sum;
}

/// Equal blocks of 1, 2, 4, ... leaves are merged as soon as they exist; the rest is folded from the last to the first:
/// 3 leaves are (0+1)+2, 7 are ((0+1)+(2+3))+((4+5)+6).
inline Floats tree_sum(const std::vector<Floats>& leaves) {
  std::vector<std::pair<std::size_t, Floats>> blocks;  // the number of leaves, and their sum
  for (const Floats& leaf : leaves) {
    blocks.emplace_back(1, leaf);
    while (blocks.size() >= 2 && blocks[blocks.size() - 1].first == blocks[blocks.size() - 2].first) {
      auto right = blocks.back();
      blocks.pop_back();
      blocks.back() = {2 * right.first, added(blocks.back().second, right.second)};
    }
  }
  Floats sum = blocks.back().second;
  for (std::size_t b = blocks.size() - 1; b-- > 0;) sum = added(blocks[b].second, sum);
  return sum;
}

// ---- the norm

/// The sum of squares of up to 64 numbers, in eight lanes.
inline double block_squares(const float* x, std::size_t count) {
  double lane[8];
  for (std::size_t l = 0; l < 8; ++l) {
    lane[l] = 0.0;
    for (std::size_t i = l; i < 64; i += 8) {
      const double value = i < count ? static_cast<double>(x[i]) : 0.0;
      lane[l] += value * value;
    }
  }
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/// Blocks are counted from each unit's start. unit_sizes: the number of trainable elements of each unit.
inline double square_sum(const Floats& gradient, const std::vector<std::size_t>& unit_sizes) {
  std::vector<double> blocks;
  std::size_t start = 0;
  for (const std::size_t size : unit_sizes) {
    for (std::size_t at = 0; at < size; at += 64)
      blocks.push_back(block_squares(gradient.data() + start + at, std::min<std::size_t>(64, size - at)));
    start += size;
  }
  return exact_sum(blocks);
}

// ---- the rules

enum class Kind {
  sgd,
  adam,
  adamw,
  adagrad,
  rmsprop,
  lion,
  adadelta,
  nadam,
  radam,
  amsgrad,
  lamb,
  lars,
  schedule_free
};

struct Rule {
  Kind kind = Kind::adam;
  double lr = 1e-3, momentum = 0, dampening = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  bool nesterov = false;
  double lr_decay = 0, initial_accumulator_value = 0;  ///< adagrad
  double alpha = 0.99, rho = 0.9;                      ///< rmsprop; adadelta
  double momentum_decay = 4e-3;                        ///< nadam
  double trust_coefficient = 1e-3;                     ///< lars
  int warmup_steps = 0;                                ///< schedule_free
  bool package = false;                                ///< schedule_free: the variant of its authors' package
};

struct State {
  float first = 0;   ///< sgd: momentum_buffer; adam-like rules, lion: m; adagrad: sum; rmsprop, adadelta: square_avg;
                     ///< schedule_free: z - x
  float second = 0;  ///< adam-like rules: v; adadelta: acc_delta
  float third = 0;   ///< amsgrad: v_max
};

inline float sgd(const Rule& rule, int step, float w, float g, State& state) {
  g = g + static_cast<float>(rule.weight_decay) * w;
  const auto momentum = static_cast<float>(rule.momentum);
  float direction = g;
  if (rule.momentum != 0) {
    float& b = state.first;
    b = step == 1 ? g : momentum * b + static_cast<float>(1 - rule.dampening) * g;
    direction = rule.nesterov ? g + momentum * b : b;
  }
  return w - static_cast<float>(rule.lr) * direction;
}

/// factor * average + (1 - factor) * g^2
inline float mean_square(float average, double factor, float g) {
  return static_cast<float>(factor) * average + static_cast<float>(1 - factor) * g * g;
}

/// Updates the moments of adam-like rules.
inline void take_moments(const Rule& rule, float g, State& state) {
  state.first = state.first + static_cast<float>(1 - rule.beta1) * (g - state.first);
  state.second = mean_square(state.second, rule.beta2, g);
  if (state.second > state.third) state.third = state.second;
}

inline float adam(const Rule& rule, int step, float w, float g, State& state) {
  float kept = w;
  if (rule.kind == Kind::adamw) kept = w * static_cast<float>(1 - rule.lr * rule.weight_decay);
  else g = g + static_cast<float>(rule.weight_decay) * w;
  take_moments(rule, g, state);
  const double correction1 = 1 - std::pow(rule.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(rule.beta2, static_cast<double>(step));
  const double root = std::sqrt(correction2);
  const float v = rule.kind == Kind::amsgrad ? state.third : state.second;
  const float denominator = std::sqrt(v) + static_cast<float>(rule.epsilon * root);
  return kept - static_cast<float>(rule.lr * root / correction1) * state.first / denominator;
}

inline float nadam(const Rule& rule, int step, float w, float g, State& state) {
  g = g + static_cast<float>(rule.weight_decay) * w;
  take_moments(rule, g, state);
  double mu = 0, next = 0, product = 1;
  for (int t = 1; t <= step; ++t) {
    mu = rule.beta1 * (1 - 0.5 * std::pow(0.96, t * rule.momentum_decay));
    next = rule.beta1 * (1 - 0.5 * std::pow(0.96, (t + 1) * rule.momentum_decay));
    product *= mu;
  }
  const double root = std::sqrt(1 - std::pow(rule.beta2, static_cast<double>(step)));
  const float of_gradient = static_cast<float>(rule.lr * root * (1 - mu) / (1 - product)) * g;
  const float of_momentum = static_cast<float>(rule.lr * root * next / (1 - product * next)) * state.first;
  return w - (of_gradient + of_momentum) / (std::sqrt(state.second) + static_cast<float>(rule.epsilon * root));
}

inline float radam(const Rule& rule, int step, float w, float g, State& state) {
  g = g + static_cast<float>(rule.weight_decay) * w;
  take_moments(rule, g, state);
  const double power = std::pow(rule.beta2, static_cast<double>(step));
  const double limit = 2 / (1 - rule.beta2) - 1;
  const double length = limit - 2 * step * power / (1 - power);
  const double size = rule.lr / (1 - std::pow(rule.beta1, static_cast<double>(step)));
  if (!(length > 5)) return w - static_cast<float>(size) * state.first;
  const double variance = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length);
  const auto rectified = static_cast<float>(size * std::sqrt(variance * (1 - power)));
  return w - rectified * state.first / (std::sqrt(state.second) + static_cast<float>(rule.epsilon));
}

inline float adagrad(const Rule& rule, int step, float w, float g, State& state) {
  g = g + static_cast<float>(rule.weight_decay) * w;
  if (step == 1) state.first = static_cast<float>(rule.initial_accumulator_value);
  state.first = state.first + g * g;
  const auto lr = static_cast<float>(rule.lr / (1 + (step - 1) * rule.lr_decay));
  return w - lr * g / (std::sqrt(state.first) + static_cast<float>(rule.epsilon));
}

inline float rmsprop(const Rule& rule, float w, float g, State& state) {
  g = g + static_cast<float>(rule.weight_decay) * w;
  state.first = mean_square(state.first, rule.alpha, g);
  return w - static_cast<float>(rule.lr) * g / (std::sqrt(state.first) + static_cast<float>(rule.epsilon));
}

inline float adadelta(const Rule& rule, float w, float g, State& state) {
  g = g + static_cast<float>(rule.weight_decay) * w;
  const auto epsilon = static_cast<float>(rule.epsilon);
  state.first = mean_square(state.first, rule.rho, g);
  const float ratio = (state.second + epsilon) / (state.first + epsilon);
  const float delta = std::sqrt(ratio) * g;
  state.second = mean_square(state.second, rule.rho, delta);
  return w - static_cast<float>(rule.lr) * delta;
}

inline float lion(const Rule& rule, float w, float g, State& state) {
  const float c = static_cast<float>(rule.beta1) * state.first + static_cast<float>(1 - rule.beta1) * g;
  state.first = static_cast<float>(rule.beta2) * state.first + static_cast<float>(1 - rule.beta2) * g;
  const float kept = w * static_cast<float>(1 - rule.lr * rule.weight_decay);
  if (c == 0) return kept;
  return c > 0 ? kept - static_cast<float>(rule.lr) : kept + static_cast<float>(rule.lr);
}

/// x is the average of z; w lies between them.
inline float schedule_free(const Rule& rule, int step, float w, float g, State& state) {
  double gamma = 0, share = 0, sum = 0, power = 1;
  for (int t = 1; t <= step; ++t) {
    power *= rule.beta2;
    const double warmth = t < rule.warmup_steps ? static_cast<double>(t) / rule.warmup_steps : 1.0;
    share = warmth * warmth * (rule.package ? 1 : 1 - power);
    sum += share;
    gamma = rule.lr * warmth * std::sqrt(1 - power);
  }
  share /= sum;
  const double root = rule.package ? std::sqrt(1 - std::pow(rule.beta2, static_cast<double>(step))) : 1.0;
  state.second = mean_square(state.second, rule.beta2, g);
  const float slope = g / (std::sqrt(state.second) + static_cast<float>(rule.epsilon * root));
  const float move = static_cast<float>(gamma) * (slope + static_cast<float>(rule.weight_decay / root) * w);
  const float before = state.first;
  state.first = static_cast<float>(1 - share) * (before - move);
  return w + (static_cast<float>(rule.beta1) * (before - state.first) - move);
}

inline float evaluated(const Rule& rule, float w, const State& state) {
  return w - static_cast<float>(1 - rule.beta1) * state.first;
}

/// Lamb's r, after the gradient was added to the moments.
inline float lamb_direction(const Rule& rule, int step, float w, const State& state) {
  const double root = std::sqrt(1 - std::pow(rule.beta2, static_cast<double>(step)));
  const auto size = static_cast<float>(root / (1 - std::pow(rule.beta1, static_cast<double>(step))));
  const float denominator = std::sqrt(state.second) + static_cast<float>(rule.epsilon * root);
  return size * state.first / denominator + static_cast<float>(rule.weight_decay) * w;
}

/// The norm of a tensor's numbers. Their places in the flat space determine each number's block and lane.
inline double tensor_norm(const Floats& numbers, const std::vector<std::uint64_t>& places) {
  std::vector<double> blocks;
  float block[64] = {};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    block[places[i] % 64] = numbers[i];
    if (i + 1 < numbers.size() && places[i + 1] / 64 == places[i] / 64) continue;
    blocks.push_back(block_squares(block, 64));
    std::fill(block, block + 64, 0.0f);
  }
  return std::sqrt(exact_sum(blocks));
}

/// Rules whose step depends on norms of whole tensors: updates all elements of one tensor.
inline void update_tensor(const Rule& rule, int step, Floats& weights, const Floats& gradients,
                          const std::vector<State*>& states, const std::vector<std::uint64_t>& places) {
  Floats measured = gradients;
  if (rule.kind == Kind::lamb)
    for (std::size_t i = 0; i < weights.size(); ++i) {
      take_moments(rule, gradients[i], *states[i]);
      measured[i] = lamb_direction(rule, step, weights[i], *states[i]);
    }
  const double of_weights = tensor_norm(weights, places), of_measured = tensor_norm(measured, places);
  double rate = rule.lr;
  if (of_weights > 0 && of_measured > 0)
    rate *= rule.kind == Kind::lamb
                ? of_weights / of_measured
                : rule.trust_coefficient * of_weights / (of_measured + rule.weight_decay * of_weights);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (rule.kind == Kind::lamb) {
      weights[i] = weights[i] - static_cast<float>(rate) * measured[i];
    } else {
      float& b = states[i]->first;
      b = static_cast<float>(rule.momentum) * b +
          static_cast<float>(rate) * (gradients[i] + static_cast<float>(rule.weight_decay) * weights[i]);
      weights[i] = weights[i] - b;
    }
  }
}

inline float updated(const Rule& rule, int step, float w, float g, State& state) {
  switch (rule.kind) {
    case Kind::sgd: return sgd(rule, step, w, g, state);
    case Kind::adagrad: return adagrad(rule, step, w, g, state);
    case Kind::rmsprop: return rmsprop(rule, w, g, state);
    case Kind::lion: return lion(rule, w, g, state);
    case Kind::adadelta: return adadelta(rule, w, g, state);
    case Kind::nadam: return nadam(rule, step, w, g, state);
    case Kind::radam: return radam(rule, step, w, g, state);
    case Kind::schedule_free: return schedule_free(rule, step, w, g, state);
    case Kind::adam:
    case Kind::adamw:
    case Kind::lamb:
    case Kind::lars:
    case Kind::amsgrad: break;
  }
  return adam(rule, step, w, g, state);
}

// ---- the step

enum class Precision { fp32, bf16, bf16_reduce_fp32, bf16_remainder, bf16_stochastic, fp16, fp16_reduce_fp32 };

struct Problem {
  std::vector<std::size_t> unit_sizes;  ///< trainable elements of each unit; units are contiguous
  std::vector<Rule> rules;              ///< one per hyperparameter group
  std::vector<std::size_t> groups;      ///< each element's group; empty: all in group 0
  Floats weights;                       ///< initial, fp32
  Precision precision = Precision::fp32;
  LossScale loss_scale{};               ///< of fp16
  std::uint64_t seed = 0;               ///< of stochastic rounding
  std::vector<std::uint64_t> places;    ///< each element's place in the flat space, for random bits and norms
  std::vector<std::size_t> tensors;     ///< each element's tensor, for rules that need norms
  double clip_norm = 0;                 ///< 0: no clipping
};

struct Trainer {
  Problem problem;
  Floats master = problem.weights;
  Floats parameter = problem.weights;
  std::vector<State> state = std::vector<State>(problem.weights.size());
  int steps = 0;         ///< applied
  double norm = 0;       ///< of the last step's averaged gradient, before clipping
  bool applied = false;  ///< whether the last step was applied

  explicit Trainer(Problem of) : problem(std::move(of)) {
    for (float& value : parameter) value = first_parameter(value);
    if (problem.precision == Precision::bf16_stochastic) master = parameter;
  }

  /// A gradient as backward writes it.
  float leaf(float g) const { return gradient_type(g * static_cast<float>(scale())); }
  float first_parameter(float w) const {
    return problem.precision == Precision::bf16_remainder ? to_bf16_away(w) : gradient_type(w);
  }
  double scale() const { return is_fp16() ? problem.loss_scale.scale : 1; }

  /// micro_batches: M vectors with one gradient per element, already representable in the gradient type.
  void step(const std::vector<Floats>& micro_batches) {
    Floats gradient = tree_sum(micro_batches);
    double count = static_cast<double>(micro_batches.size());
    if (rounds_sums()) {
      const float share = 1.0f / static_cast<float>(micro_batches.size());
      for (float& g : gradient) g = gradient_type(g * share);
      count = 1;
    }
    applied = std::all_of(gradient.begin(), gradient.end(), [](float g) { return std::isfinite(g); });
    count *= scale();
    problem.loss_scale.step(!applied);
    if (!applied) return;
    norm = std::sqrt(square_sum(gradient, problem.unit_sizes)) / count;
    const double coefficient = problem.clip_norm > 0 ? std::min(1.0, problem.clip_norm / (norm + 1e-6)) : 1.0;
    const auto scale = static_cast<float>(coefficient / count);
    ++steps;
    if (problem.rules[0].kind == Kind::lamb || problem.rules[0].kind == Kind::lars) {
      for (std::size_t i = 0, end = 0; i < master.size(); i = end) {
        for (end = i; end < master.size() && problem.tensors[end] == problem.tensors[i];) ++end;
        Floats weights(master.begin() + i, master.begin() + end), gradients;
        std::vector<State*> states;
        for (std::size_t e = i; e < end; ++e) gradients.push_back(gradient[e] * scale), states.push_back(&state[e]);
        update_tensor(rule_of(i), steps, weights, gradients, states,
                      {problem.places.begin() + i, problem.places.begin() + end});
        std::copy(weights.begin(), weights.end(), master.begin() + i);
      }
    } else {
      for (std::size_t i = 0; i < master.size(); ++i)
        master[i] = updated(rule_of(i), steps, master[i], gradient[i] * scale, state[i]);
    }
    round();
  }

  /// Schedule-free: the parameters to evaluate. Training does not use them.
  Floats evaluation() const {
    Floats all;
    for (std::size_t i = 0; i < master.size(); ++i)
      all.push_back(first_parameter(evaluated(rule_of(i), master[i], state[i])));
    return all;
  }

 private:
  const Rule& rule_of(std::size_t i) const { return problem.rules[problem.groups.empty() ? 0 : problem.groups[i]]; }

  void round() {
    for (std::size_t i = 0; i < master.size(); ++i) parameter[i] = next_parameter(i);
    if (problem.precision == Precision::bf16_stochastic) master = parameter;
  }

  float gradient_type(float x) const {
    if (problem.precision == Precision::fp32) return x;
    return is_fp16() ? to_fp16(x) : to_bf16(x);
  }

  /// Whether sums are scaled to the mean and then rounded to 16 bits.
  bool rounds_sums() const {
    return problem.precision != Precision::fp32 && problem.precision != Precision::bf16_reduce_fp32 &&
           problem.precision != Precision::fp16_reduce_fp32;
  }
  bool is_fp16() const {
    return problem.precision == Precision::fp16 || problem.precision == Precision::fp16_reduce_fp32;
  }

  float next_parameter(std::size_t i) const {
    if (problem.precision == Precision::bf16_stochastic)
      return to_bf16_at_random(master[i], random_bits(problem.seed, steps, problem.places[i]));
    return first_parameter(master[i]);
  }
};

}  // namespace reference

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
