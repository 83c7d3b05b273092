// The few numbers by which a step is decided. They lie in the executor's memory and are written by its tasks alone, so
// that a device decides without the host. Design section 4, points 4, 5 and 8.
//
//     prepare (a group)   this step's rules and scalars        \  once(task), in this order; between
//     offer, absent       what this rank brings to the sum      > offer and decide the one all-reduce
//     decide              norm, skip or apply, loss scale      /
#pragma once

#include <cstdint>

#include <tessera/core/digest.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/engine/kernels/clip.hpp>
#include <tessera/engine/kernels/loss_scale.hpp>
#include <tessera/exec/squares.hpp>

namespace tessera::engine {

/// What a step came to.
struct StepOutcome {
  index_t steps = 0;              ///< applied so far
  double gradient_norm = 0;       ///< of the averaged gradients, before clipping; NaN where one is not finite
  double loss_scale = 1;          ///< by which gradients had been multiplied
  index_t first_non_finite = -1;  ///< place in the trainable space of a gradient, or -1
  index_t first_non_finite_weight = -1;  ///< that an earlier update made, or -1
  int differs = 0;                ///< a rank that did not do what rank 0 did, or 0
  float gradient_scale = 0;       ///< from the reduced gradients to the clipped mean
  bool applied = false;
  bool loss_scale_exhausted = false;
};

/// The lowest place that was noted; by default none.
struct LowestPlace {
  std::uint64_t place = SquareSum::none;
};

struct StepNumbers {
  SquareSum mine;  ///< of this rank's part of the reduced gradients
  LossScaler scaler;
  float loss_scale = 1;  ///< what the caller multiplies the loss by
  StepOutcome outcome;   ///< of the last step
  LowestPlace first_non_finite_weight;  ///< that an update of this rank wrote
};

/// A group's hyperparameters as they are in this step.
template <class Rule>
struct StepRule {
  Rule rule{};
  typename Rule::Scalars scalars{};
};

/// Where ranks meet. Words of one all-reduce, which only sums: the digits of the sum of squares; beside them every rank
/// has three words of its own, and every unit one.
///
///     | digits of the sum of squares | digest of rank 0 .. N-1 | 1 + first place of a gradient that is not finite, or
///     0, of rank 0 .. N-1 | the same of a weight | ranks on which unit 0 .. U-1 had no gradient in this step |
struct AgreementWords {
  std::uint64_t* words;
  int world;
  int units = 0;

  TESSERA_HD static constexpr index_t size(int world, int units) { return ExactSum::limbs + 3 * index_t{world} + units; }

  TESSERA_HD std::uint64_t& digest(int rank) const noexcept { return words[ExactSum::limbs + rank]; }
  TESSERA_HD std::uint64_t& gradient_place(int rank) const noexcept { return words[ExactSum::limbs + world + rank]; }
  TESSERA_HD std::uint64_t& weight_place(int rank) const noexcept { return words[ExactSum::limbs + 2 * world + rank]; }
  TESSERA_HD std::uint64_t& absent(int unit) const noexcept { return words[ExactSum::limbs + 3 * world + unit]; }

  TESSERA_HD double square_sum() const noexcept {
    ExactSum sum;
    for (int i = 0; i < ExactSum::limbs; ++i) sum.set_digit(i, words[i]);
    return sum.value();
  }
  /// The first place in the trainable space whose gradient, or weight, is not finite on some rank, or -1.
  TESSERA_HD index_t first_gradient_place() const noexcept { return first_of(&gradient_place(0)); }
  TESSERA_HD index_t first_weight_place() const noexcept { return first_of(&weight_place(0)); }
  /// The first rank whose digest is not rank 0's, or 0.
  TESSERA_HD int differs() const noexcept {
    for (int r = 1; r < world; ++r)
      if (digest(r) != digest(0)) return r;
    return 0;
  }

 private:
  TESSERA_HD index_t first_of(const std::uint64_t* of_rank) const noexcept {
    std::uint64_t first = 0;
    for (int r = 0; r < world; ++r)
      if (of_rank[r] != 0 && (first == 0 || of_rank[r] < first)) first = of_rank[r];
    return static_cast<index_t>(first) - 1;
  }
};

/// Sets a group's rule to what it is in the step to come.
template <class Rule>
struct PrepareRule {
  Rule rule;
  StepRule<Rule>* to;
  const StepNumbers* numbers;

  TESSERA_HD void operator()() const noexcept {
    const index_t step = numbers->outcome.steps + 1;
    if constexpr (requires { rule.in_step(step); })
      *to = {rule.in_step(step), rule.scalars(step)};
    else
      *to = {rule, rule.scalars(step)};
  }
};

/// Before the squares of a step are added.
struct ForgetSquares {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->mine = SquareSum{}; }
};

/// Writes what this rank brings. settings: the digest of what the caller chose for this step (engine/step/settings.hpp).
struct Offer {
  StepNumbers* numbers;
  AgreementWords words;
  int rank;
  std::uint64_t settings;

  TESSERA_HD void operator()() const noexcept {
    SquareSum& mine = numbers->mine;
    mine.squares.normalise();
    for (int i = 0; i < ExactSum::limbs; ++i) words.words[i] = mine.squares.digit(i);
    for (index_t i = ExactSum::limbs; i < AgreementWords::size(words.world, words.units); ++i) words.words[i] = 0;
    core::Digest digest;
    digest.add(static_cast<std::int64_t>(settings)).add(numbers->outcome.steps);
    words.digest(rank) = digest.value();
    words.gradient_place(rank) = mine.first_non_finite + 1;  // none becomes 0
    words.weight_place(rank) = numbers->first_non_finite_weight.place + 1;
  }
};

/// After Offer: this rank had no gradient of `unit` in the step.
struct OfferAbsent {
  AgreementWords words;
  int unit;
  TESSERA_HD void operator()() const noexcept { words.absent(unit) = 1; }
};

/// Makes of what all ranks brought what this step is. Where ranks differ, nothing is applied, then or later.
struct Decide {
  StepNumbers* numbers;
  AgreementWords words;
  double divisor;  ///< from the reduced gradients to their mean, beside the loss scale
  double clip_norm;
  bool scales_loss;

  static constexpr double nan = __builtin_nan("");

  TESSERA_HD void operator()() const noexcept {
    StepOutcome& outcome = numbers->outcome;
    if (outcome.differs == 0) outcome.differs = words.differs();
    outcome.applied = false;
    if (outcome.differs != 0) return;
    outcome.loss_scale = static_cast<double>(numbers->loss_scale);
    const double leaves = divisor * outcome.loss_scale;
    outcome.gradient_norm = tessera::engine::gradient_norm(words.square_sum(), leaves);
    outcome.first_non_finite = words.first_gradient_place();
    outcome.first_non_finite_weight = words.first_weight_place();
    outcome.gradient_scale = tessera::engine::gradient_scale(outcome.gradient_norm, clip_norm, leaves);
    outcome.applied =
        outcome.first_non_finite < 0 && is_finite(outcome.loss_scale) && is_finite(double{outcome.gradient_scale});
    if (!outcome.applied) outcome.gradient_norm = nan;  // the squares left out what is not finite
    outcome.steps += outcome.applied;
    if (!scales_loss) return;
    numbers->scaler.advance(!outcome.applied);
    numbers->loss_scale = static_cast<float>(numbers->scaler.scale());
    outcome.loss_scale_exhausted = numbers->scaler.exhausted();
  }
};

/// Weights have come in anew.
struct ForgetNonFiniteWeight {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->first_non_finite_weight = {}; }
};

/// Counts the steps to come from the first again.
struct ForgetSteps {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->outcome.steps = 0; }
};

/// Ranks that differed have all been told.
struct ForgetDifference {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->outcome.differs = 0; }
};

}  // namespace tessera::engine
