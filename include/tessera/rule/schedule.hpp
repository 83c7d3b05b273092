// Learning rates as functions of the step: constant, warm-up, linear, cosine, steps, one cycle.
// A schedule is a plain struct of settings without state, so a run resumed at a step continues with the same rate. It
// does not know a rule or an optimizer: the caller assigns its result to a rule's lr.
#pragma once

#include <array>
#include <limits>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/rule/concept.hpp>

// Common to all schedules:
//   - Steps are counted from 1, as in a rule's scalars(step): step s is PyTorch's last_epoch s - 1. A step below 1
//   counts
//     as 1. After the last step the rate stays constant.
//   - A schedule can be called for steps in any order, from any thread, kernel or constant expression. One build gives
//     all ranks the same bits; constant expressions, hosts with fused arithmetic and devices may differ in the last
//     bit.
//   - validate() throws OptionError with schedule and field, and is a constant expression if it does not throw. The
//     result of a schedule that is not valid is unspecified.
namespace tessera {

namespace schedules {

/// cos(pi x) for x in [0, 1], within 1e-15. Exact at 0, 1/2 and 1, which std::cos of the rounded product pi x is not.
/// Source: the Taylor series of cos and sin at 0, for arguments up to pi / 4; its error is below 1e-16.
TESSERA_HD constexpr double cos_pi(double x) noexcept {
  constexpr double pi = 3.14159265358979323846;
  const double sign = x > 0.5 ? -1 : 1;
  const double folded = x > 0.5 ? 1 - x : x;  // exact, as is 1/2 - folded
  const bool is_sine = folded > 0.25;
  const double y = pi * (is_sine ? 0.5 - folded : folded);
  double sum = 1;  // Horner's method: 1 - y^2 / (k (k - 1)) (1 - ...)
  for (int k = is_sine ? 17 : 18; k > 1; k -= 2) sum = 1 - y * y / (k * (k - 1)) * sum;
  return sign * (is_sine ? y * sum : sum);
}

/// Linear interpolation from `from` (share 0) to `to` (share 1); exact at both ends.
TESSERA_HD constexpr double mix(double from, double to, double share) noexcept {
  return (1 - share) * from + share * to;
}

/// Interpolation from `from` to `to` along half a cosine.
TESSERA_HD constexpr double mix_cosine(double from, double to, double share) noexcept {
  return mix(to, from, (1 + cos_pi(share)) / 2);
}

/// The fraction of the decay that is done before `step`, in [0, 1].
TESSERA_HD constexpr double share_of_decay(index_t step, index_t warmup_steps, index_t steps) noexcept {
  if (step > steps) return 1;
  const double warmup = static_cast<double>(warmup_steps);
  return max(static_cast<double>(step) - 1 - warmup, 0.0) / (static_cast<double>(steps) - warmup);
}

/// The warm-up factor in step `step`: 1 / warmup_steps in the first step, 1 from step warmup_steps on.
TESSERA_HD constexpr double share_of_warmup(index_t step, index_t warmup_steps) noexcept {
  const index_t s = max(step, index_t{1});
  return s >= warmup_steps ? 1 : static_cast<double>(s) / static_cast<double>(warmup_steps);
}

// A separate test, so that only the call that throws is not a constant expression.
constexpr void require(bool good, const char* schedule, const char* field, double value, const char* range) {
  if (!good) require_option(good, schedule, field, value, range);
}

constexpr void require(bool good, const char* schedule, const char* field, index_t steps, const char* range) {
  if (!good) throw OptionError(message({schedule, ": ", field, " must be ", range, ", is ", steps}));
}

/// Requires a value that a rule accepts as lr.
constexpr void require_rate(const char* schedule, const char* field, double rate) {
  require(rate >= 0 && rate <= std::numeric_limits<float>::max(), schedule, field, rate, "in [0, 3.4e38]");
}

/// Checks the fields of a schedule that warms up and then decays to a floor.
constexpr void require_decay(const char* schedule, double peak, index_t warmup_steps, index_t steps, double floor) {
  require_rate(schedule, "peak", peak);
  require(warmup_steps >= 0, schedule, "warmup_steps", warmup_steps, "at least 0");
  require(steps >= 1, schedule, "steps", steps, "at least 1");
  require(steps > warmup_steps, schedule, "steps", steps, "above warmup_steps");
  require(floor >= 0 && floor <= peak, schedule, "floor", floor, "in [0, peak]");
}

}  // namespace schedules

/// lr
/// Equals a PyTorch optimizer without a scheduler. For code that is generic over schedules.
struct ConstantSchedule {
  double lr = 1e-3;

  static constexpr const char* name = "ConstantSchedule";
  static constexpr std::array hyperparameter_names{"lr"};

  TESSERA_HD constexpr double operator()(index_t) const noexcept { return lr; }

  /// Throws OptionError.
  constexpr void validate() const { schedules::require_rate(name, "lr", lr); }
};

/// peak min(1, s / warmup_steps) in step s: peak / warmup_steps in the first step, peak from step warmup_steps on.
/// Equals torch.optim.lr_scheduler.LinearLR(start_factor=1 / warmup_steps, total_iters=warmup_steps - 1) after s - 1
/// epochs (PyTorch needs total_iters of at least 1; here warmup_steps = 1 is constant).
/// Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2 (gradual warm-up).
struct WarmupSchedule {
  double peak = 1e-3;
  index_t warmup_steps = 0;  ///< required

  static constexpr const char* name = "WarmupSchedule";
  static constexpr std::array hyperparameter_names{"peak", "warmup_steps"};

  TESSERA_HD constexpr double operator()(index_t step) const noexcept {
    return peak * schedules::share_of_warmup(step, warmup_steps);
  }

  /// Throws OptionError.
  constexpr void validate() const {
    schedules::require_rate(name, "peak", peak);
    schedules::require(warmup_steps >= 1, name, "warmup_steps", warmup_steps, "at least 1");
  }
};

/// Up to step warmup_steps as WarmupSchedule; then, with x = (s - 1 - warmup_steps) / (steps - warmup_steps) in step s,
/// peak + (floor - peak) x, and floor after step `steps`.
/// All `steps` steps have a rate above the floor; step steps + 1 is the first at the floor. With a floor of 0 the last
/// step would otherwise have no effect.
/// Equals torch.optim.lr_scheduler.LinearLR(start_factor=1, end_factor=floor / peak, total_iters=steps - warmup_steps)
/// after s - 1 epochs, after a warm-up in SequentialLR(milestones=[warmup_steps]).
struct LinearSchedule {
  double peak = 1e-3;
  index_t warmup_steps = 0;
  index_t steps = 0;  ///< of warm-up and decay together; required
  double floor = 0;

  static constexpr const char* name = "LinearSchedule";
  static constexpr std::array hyperparameter_names{"peak", "warmup_steps", "steps", "floor"};

  TESSERA_HD constexpr double operator()(index_t step) const noexcept {
    if (step <= warmup_steps) return peak * schedules::share_of_warmup(step, warmup_steps);
    return schedules::mix(peak, floor, schedules::share_of_decay(step, warmup_steps, steps));
  }

  /// Throws OptionError.
  constexpr void validate() const { schedules::require_decay(name, peak, warmup_steps, steps, floor); }
};

/// Up to step warmup_steps as WarmupSchedule; then, with x = (s - 1 - warmup_steps) / (steps - warmup_steps) in step s,
/// floor + (peak - floor) (1 + cos(pi x)) / 2, and floor after step `steps`, as in LinearSchedule.
/// Equals torch.optim.lr_scheduler.CosineAnnealingLR(T_max=steps - warmup_steps, eta_min=floor) after s - 1 epochs,
/// after a warm-up in SequentialLR(milestones=[warmup_steps]). PyTorch's rate rises again after T_max; this one does
/// not.
/// Source: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5, no restarts.
struct CosineSchedule {
  double peak = 1e-3;
  index_t warmup_steps = 0;
  index_t steps = 0;  ///< of warm-up and decay together; required
  double floor = 0;

  static constexpr const char* name = "CosineSchedule";
  static constexpr std::array hyperparameter_names{"peak", "warmup_steps", "steps", "floor"};

  TESSERA_HD constexpr double operator()(index_t step) const noexcept {
    if (step <= warmup_steps) return peak * schedules::share_of_warmup(step, warmup_steps);
    return schedules::mix_cosine(peak, floor, schedules::share_of_decay(step, warmup_steps, steps));
  }

  /// Throws OptionError.
  constexpr void validate() const { schedules::require_decay(name, peak, warmup_steps, steps, floor); }
};

/// lr factor^floor((s - 1) / every) in step s: lr for the first `every` steps, lr factor for the next, and so on.
/// Equals torch.optim.lr_scheduler.StepLR(step_size=every, gamma=factor) after s - 1 epochs.
struct StepSchedule {
  double lr = 1e-3;
  double factor = 0.1;
  index_t every = 0;  ///< in steps; required

  static constexpr const char* name = "StepSchedule";
  static constexpr std::array hyperparameter_names{"lr", "factor", "every"};

  TESSERA_HD constexpr double operator()(index_t step) const noexcept {
    double rate = lr;
    double power = factor;  // factor^(2^k)
    for (index_t left = (max(step, index_t{1}) - 1) / max(every, index_t{1}); left > 0; left /= 2) {
      if (left % 2 == 1) rate *= power;
      power *= power;
    }
    return rate;
  }

  /// Throws OptionError.
  constexpr void validate() const {
    schedules::require_rate(name, "lr", lr);
    schedules::require(factor >= 0 && factor <= 1, name, "factor", factor, "in [0, 1]");
    schedules::require(every >= 1, name, "every", every, "at least 1");
  }
};

/// With t = s - 1 in step s and e = warmup_share steps - 1: rises from peak / start_divisor to peak along half a cosine
/// while t <= e, x = t / e. Then falls to peak / (start_divisor end_divisor), x = (t - e) / (steps - 1 - e). From a to
/// b along half a cosine is b + (a - b) (1 + cos(pi x)) / 2. Step `steps` and all later steps have the lowest rate.
/// Equals torch.optim.lr_scheduler.OneCycleLR(max_lr=peak, total_steps=steps, pct_start=warmup_share,
/// div_factor=start_divisor, final_div_factor=end_divisor, anneal_strategy='cos', three_phase=False) after s - 1
/// epochs. PyTorch divides by zero where e = 0 (here: peak) and throws after its end. Momentum is not cycled.
/// Source: Smith and Topin 2019, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates".
struct OneCycleSchedule {
  double peak = 1e-3;
  index_t steps = 0;          ///< required
  double warmup_share = 0.3;  ///< fraction of the steps
  double start_divisor = 25;  ///< the first rate is peak / start_divisor
  double end_divisor = 1e4;   ///< the last rate is the first rate / end_divisor

  static constexpr const char* name = "OneCycleSchedule";
  static constexpr std::array hyperparameter_names{"peak", "steps", "warmup_share", "start_divisor", "end_divisor"};

  TESSERA_HD constexpr double operator()(index_t step) const noexcept {
    const double top = warmup_share * static_cast<double>(steps) - 1;
    const double last = static_cast<double>(steps) - 1;
    const double t = min(static_cast<double>(max(step, index_t{1}) - 1), last);
    const double start = peak / start_divisor;
    if (t <= top) return schedules::mix_cosine(start, peak, top > 0 ? t / top : 1);
    return schedules::mix_cosine(peak, start / end_divisor, last > top ? (t - top) / (last - top) : 1);
  }

  /// Throws OptionError.
  constexpr void validate() const {
    constexpr double most = std::numeric_limits<float>::max();
    schedules::require_rate(name, "peak", peak);
    schedules::require(steps >= 1, name, "steps", steps, "at least 1");
    schedules::require(warmup_share >= 0 && warmup_share <= 1, name, "warmup_share", warmup_share, "in [0, 1]");
    schedules::require(start_divisor > 0 && start_divisor <= most, name, "start_divisor", start_divisor,
                       "in (0, 3.4e38]");
    schedules::require(end_divisor > 0 && end_divisor <= most, name, "end_divisor", end_divisor, "in (0, 3.4e38]");
  }
};

}  // namespace tessera
