// The few numbers by which a step is decided. They lie in the executor's memory and are written by its tasks alone, so
// that a device decides without the host. Design section 4, points 4, 5 and 8.
//
//     prepare (a group)   this step's rules and scalars        \  once(task), in this order; between
//     offer               what this rank brings to the sum      > offer and decide the one all-reduce
//     decide              norm, skip or apply, loss scale      /
#pragma once

#include <cstdint>

#include <tessera/core/digest.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/engine/clip.hpp>
#include <tessera/engine/loss_scale.hpp>
#include <tessera/exec/squares.hpp>

namespace tessera {

/// What a step came to.
struct StepOutcome {
  index_t steps = 0;              ///< applied so far
  double gradient_norm = 0;       ///< of the averaged gradients, before clipping
  double loss_scale = 1;          ///< by which gradients had been multiplied
  index_t first_non_finite = -1;  ///< place in the trainable space, or -1
  int differs = 0;                ///< a rank that did not do what rank 0 did, or 0
  float gradient_scale = 0;       ///< from the sum to the clipped mean
  bool applied = false;
  bool loss_scale_exhausted = false;
};

struct StepNumbers {
  SquareSum mine;  ///< of this rank's part of the reduced gradients
  LossScaler scaler;
  float loss_scale = 1;  ///< what the caller multiplies the loss by
  StepOutcome outcome;   ///< of the last step
};

/// A group's hyperparameters as they are in this step.
template <class Rule>
struct StepRule {
  Rule rule{};
  typename Rule::Scalars scalars{};
};

/// Where ranks meet. Words of one all-reduce, which only sums: the digits of the sum of squares; beside them every rank
/// has two words of its own.
///
///     | digits of the sum of squares | digest of rank 0 .. N-1 | 1 + first non-finite place of rank 0 .. N-1, or 0 |
struct AgreementWords {
  std::uint64_t* words;
  int world;

  static constexpr index_t size(int world) { return ExactSum::limbs + 2 * index_t{world}; }

  TESSERA_HD std::uint64_t& digest(int rank) const noexcept { return words[ExactSum::limbs + rank]; }
  TESSERA_HD std::uint64_t& place(int rank) const noexcept { return words[ExactSum::limbs + world + rank]; }

  TESSERA_HD double square_sum() const noexcept {
    ExactSum sum;
    for (int i = 0; i < ExactSum::limbs; ++i) sum.set_digit(i, words[i]);
    return sum.value();
  }
  /// The first element of the trainable space that is not finite on some rank, or -1.
  TESSERA_HD index_t first_non_finite() const noexcept {
    index_t first = -1;
    for (int r = 0; r < world; ++r)
      if (place(r) != 0 && (first < 0 || static_cast<index_t>(place(r)) - 1 < first))
        first = static_cast<index_t>(place(r)) - 1;
    return first;
  }
  /// The first rank whose digest is not rank 0's, or 0.
  TESSERA_HD int differs() const noexcept {
    for (int r = 1; r < world; ++r)
      if (digest(r) != digest(0)) return r;
    return 0;
  }
};

/// What a rule makes of its hyperparameters at `step`; that of the next step too, for what has no effect on a first one
/// (a momentum).
template <class Rule>
TESSERA_HD std::uint64_t digest_of(const Rule& rule, index_t step) {
  return Digest{}.add(rule.at(step)).add(rule.at(step + 1)).value();
}

/// Sets a group's rule to what it is in the step to come.
template <class Rule>
struct PrepareRule {
  Rule rule;
  StepRule<Rule>* to;
  const StepNumbers* numbers;

  TESSERA_HD void operator()() const noexcept {
    const index_t step = numbers->outcome.steps + 1;
    if constexpr (requires { rule.in_step(step); })
      *to = {rule.in_step(step), rule.at(step)};
    else
      *to = {rule, rule.at(step)};
  }
};

/// Before the squares of a step are added.
struct ForgetSquares {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->mine = SquareSum{}; }
};

/// Writes what this rank brings. circumstances: of what else ranks must have done alike.
template <class Rule>
struct Offer {
  StepNumbers* numbers;
  const StepRule<Rule>* rules;
  int groups;
  AgreementWords words;
  int rank;
  index_t circumstances;

  TESSERA_HD void operator()() const noexcept {
    SquareSum& mine = numbers->mine;
    mine.squares.normalise();
    for (int i = 0; i < ExactSum::limbs; ++i) words.words[i] = mine.squares.digit(i);
    for (int r = 0; r < words.world; ++r) words.digest(r) = words.place(r) = 0;
    Digest digest;
    digest.add(circumstances);
    for (int g = 0; g < groups; ++g)
      digest.add(static_cast<std::int64_t>(digest_of(rules[g].rule, numbers->outcome.steps + 1)));
    words.digest(rank) = digest.value();
    words.place(rank) = mine.first_non_finite + 1;  // none becomes 0
  }
};

/// Makes of what all ranks brought what this step is. Where ranks differ, nothing is applied, then or later.
struct Decide {
  StepNumbers* numbers;
  AgreementWords words;
  double micro_batches;  ///< of all ranks in a step
  double clip_norm;
  bool scales_loss;

  TESSERA_HD void operator()() const noexcept {
    StepOutcome& outcome = numbers->outcome;
    if (outcome.differs == 0) outcome.differs = words.differs();
    outcome.applied = false;
    if (outcome.differs != 0) return;
    outcome.loss_scale = static_cast<double>(numbers->loss_scale);
    const double leaves = micro_batches * outcome.loss_scale;
    outcome.gradient_norm = tessera::gradient_norm(words.square_sum(), leaves);
    outcome.first_non_finite = words.first_non_finite();
    outcome.gradient_scale = tessera::gradient_scale(outcome.gradient_norm, clip_norm, leaves);
    outcome.applied = outcome.first_non_finite < 0;
    outcome.steps += outcome.applied;
    if (!scales_loss) return;
    numbers->scaler.advance(!outcome.applied);
    numbers->loss_scale = static_cast<float>(numbers->scaler.scale());
    outcome.loss_scale_exhausted = numbers->scaler.exhausted();
  }
};

/// Ranks that differed have all been told.
struct ForgetDifference {
  StepNumbers* numbers;
  TESSERA_HD void operator()() const noexcept { numbers->outcome.differs = 0; }
};

}  // namespace tessera
