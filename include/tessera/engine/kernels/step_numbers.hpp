// Control state of a step (norm, skip flag, loss scale, step count) in executor memory. Only the executor's tasks write
// it, so a step needs no host synchronization. Design section 4, points 4, 5 and 8.
//
//     prepare (per group)   this step's rules and scalars        \  once(task), in this order, with
//     offer, absent         this rank's input of the all-reduce   > one all-reduce between offer and
//     decide                norm, skip or apply, loss scale      /  decide
#pragma once

#include <cstdint>

#include <tessera/core/digest.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/engine/kernels/clip.hpp>
#include <tessera/engine/kernels/loss_scale.hpp>
#include <tessera/exec/squares.hpp>

namespace tessera::engine {

/// The outcome of a step.
struct StepOutcome {
  index_t steps = 0;              ///< steps applied so far
  double gradient_norm = 0;       ///< of the mean gradient, before clipping; NaN if a gradient is not finite
  double loss_scale = 1;          ///< the loss scale of the step's gradients
  index_t first_non_finite = -1;  ///< offset in the trainable space of a gradient that is not finite, or -1
  index_t first_non_finite_weight = -1;  ///< the same for a weight that an earlier update wrote
  int differs = 0;                ///< a rank whose settings differ from rank 0's, or 0
  float gradient_scale = 0;       ///< the factor from the reduced gradients to the clipped mean
  bool applied = false;
  bool loss_scale_exhausted = false;
};

/// The lowest recorded offset in the trainable space; none by default.
struct LowestPlace {
  std::uint64_t place = SquareSum::none;
};

struct StepNumbers {
  SquareSum mine;  ///< of the reduced gradients that this rank owns
  LossScaler scaler;
  float loss_scale = 1;  ///< the factor by which the caller multiplies the loss
  StepOutcome outcome;   ///< of the last step
  LowestPlace first_non_finite_weight;  ///< among weights that updates of this rank wrote
};

/// The rule of one hyperparameter group in this step, and its scalars.
template <class Rule>
struct StepRule {
  Rule rule{};
  typename Rule::Scalars scalars{};
};

/// The words of the step's all-reduce, which sums them over ranks: the digits of the sum of squares, then three words
/// per rank, which only that rank sets, and one word per unit.
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
  /// The lowest offset in the trainable space of a gradient, or weight, that is not finite on some rank, or -1.
  TESSERA_HD index_t first_gradient_place() const noexcept { return first_of(&gradient_place(0)); }
  TESSERA_HD index_t first_weight_place() const noexcept { return first_of(&weight_place(0)); }
  /// The first rank whose digest differs from rank 0's, or 0.
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

/// Sets the rule and scalars of a hyperparameter group for the next step.
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

/// Resets the sum of squares before those of a step are added.
struct ForgetSquares {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->mine = SquareSum{}; }
};

/// Writes this rank's words of the all-reduce. settings: the digest of this step's options and hyperparameters
/// (engine/step/settings.hpp).
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

/// Runs after Offer: this rank had no gradient of `unit` in the step.
struct OfferAbsent {
  AgreementWords words;
  int unit;
  TESSERA_HD void operator()() const noexcept { words.absent(unit) = 1; }
};

/// Computes the step's outcome from the words of all ranks. If ranks differ, neither this step nor a later one is
/// applied, until ForgetDifference.
struct Decide {
  StepNumbers* numbers;
  AgreementWords words;
  double divisor;  ///< divides the reduced gradients, in addition to the loss scale
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
    if (!outcome.applied) outcome.gradient_norm = nan;  // the sum of squares excludes numbers that are not finite
    outcome.steps += outcome.applied;
    if (!scales_loss) return;
    numbers->scaler.advance(!outcome.applied);
    numbers->loss_scale = static_cast<float>(numbers->scaler.scale());
    outcome.loss_scale_exhausted = numbers->scaler.exhausted();
  }
};

/// Runs after new weights were brought in.
struct ForgetNonFiniteWeight {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->first_non_finite_weight = {}; }
};

/// Resets the count of applied steps.
struct ForgetSteps {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->outcome.steps = 0; }
};

/// Runs after the difference was reported on all ranks.
struct ForgetDifference {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->outcome.differs = 0; }
};

}  // namespace tessera::engine
