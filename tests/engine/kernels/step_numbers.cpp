#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <tessera/engine/kernels/step_numbers.hpp>
#include <tessera/rule/adam.hpp>

namespace tessera::engine {
namespace {

// The control state of a world of one rank, and what the rank contributes.
struct Alone {
  StepNumbers numbers;
  std::vector<std::uint64_t> words = std::vector<std::uint64_t>(AgreementWords::size(1, 2));
  StepRule<Adam> rule{};

  explicit Alone(const LossScale& options = {}) {
    numbers.scaler = LossScaler(options);
    numbers.loss_scale = static_cast<float>(options.initial);
  }
  void decide(double squares, std::uint64_t first_non_finite = SquareSum::none, double micro_batches = 1) {
    PrepareRule<Adam>{{}, &rule, &numbers}();
    ForgetSquares{&numbers}();
    numbers.mine.squares.add(squares);
    numbers.mine.first_non_finite = first_non_finite;
    Offer{&numbers, {words.data(), 1, 2}, 0, 0}();
    Decide{&numbers, {words.data(), 1, 2}, micro_batches, 1.0, true}();
  }
};

TEST_CASE("the norm is that of the unscaled mean, and clipping multiplies by one factor") {
  Alone alone({.initial = 4});
  alone.decide(64 * 64, SquareSum::none, 2);
  CHECK(alone.numbers.outcome.applied);
  CHECK(alone.numbers.outcome.gradient_norm == 8);
  CHECK(alone.numbers.outcome.gradient_scale == gradient_scale(8, 1, 8));
  CHECK(alone.numbers.outcome.loss_scale == 4);
}

TEST_CASE("a gradient that is not finite skips the step on all ranks, is not counted, and lowers the loss scale") {
  Alone alone({.initial = 4, .hysteresis = 1});
  alone.decide(1, 17);
  CHECK_FALSE(alone.numbers.outcome.applied);
  CHECK(alone.numbers.outcome.first_non_finite == 17);
  CHECK(alone.numbers.outcome.steps == 0);
  CHECK(alone.numbers.outcome.loss_scale == 4);  // the scale that the gradients have
  CHECK(alone.numbers.loss_scale == 2);
  alone.decide(1);
  CHECK(alone.numbers.outcome.applied);
  CHECK(alone.numbers.outcome.first_non_finite == -1);
  CHECK(alone.numbers.outcome.steps == 1);
  CHECK(alone.numbers.outcome.loss_scale == 2);
}

TEST_CASE("the norm of gradients that are not all finite is NaN, not the norm of the finite ones") {
  Alone alone;
  alone.decide(9, 17);
  CHECK(std::isnan(alone.numbers.outcome.gradient_norm));
  alone.decide(9);
  CHECK(alone.numbers.outcome.gradient_norm == 3.0 / 65536);
}

TEST_CASE("a weight that an update made infinite or NaN is in all later outcomes until it is cleared") {
  Alone alone;
  alone.decide(1);
  CHECK(alone.numbers.outcome.first_non_finite_weight == -1);
  alone.numbers.first_non_finite_weight.place = 0;
  for (int step = 0; step < 2; ++step) {
    alone.decide(1);
    CHECK(alone.numbers.outcome.first_non_finite_weight == 0);
    CHECK(alone.numbers.outcome.applied);
  }
  ForgetNonFiniteWeight{&alone.numbers}();
  alone.decide(1);
  CHECK(alone.numbers.outcome.first_non_finite_weight == -1);
}

TEST_CASE("the words of ranks and units do not overlap") {
  std::vector<std::uint64_t> sum(AgreementWords::size(3, 2));
  const AgreementWords words{sum.data(), 3, 2};
  std::uint64_t next = 1;
  for (int r = 0; r < 3; ++r) words.digest(r) = next++, words.gradient_place(r) = next++, words.weight_place(r) = next++;
  for (int u = 0; u < 2; ++u) words.absent(u) = next++;
  for (index_t i = 0; i < std::ssize(sum); ++i) CHECK((sum[i] == 0) == (i < ExactSum::limbs));
  CHECK(words.first_gradient_place() == 1);
  CHECK(words.first_weight_place() == 2);
}

TEST_CASE("a step is not applied if the loss scale or its reciprocal is not finite") {
  for (const float scale :
       {0.0f, 1e-40f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    CAPTURE(scale);
    Alone alone;
    alone.numbers.loss_scale = scale;
    alone.decide(1e-90);
    CHECK_FALSE(alone.numbers.outcome.applied);
    CHECK(alone.numbers.outcome.steps == 0);
  }
}

TEST_CASE("the first element, place 0, is distinguished from no element") {
  Alone alone;
  alone.decide(1, 0);
  CHECK(alone.numbers.outcome.first_non_finite == 0);
  CHECK_FALSE(alone.numbers.outcome.applied);
}

TEST_CASE("bias corrections count applied steps") {
  Alone alone({.hysteresis = 1});
  alone.decide(1, 3);
  alone.decide(1);
  CHECK(alone.rule.scalars.step_size == Adam{}.scalars(1).step_size);
  alone.decide(1);
  CHECK(alone.rule.scalars.step_size == Adam{}.scalars(2).step_size);
}

TEST_CASE("if ranks differ, nothing is applied, and no later step either, until the error is cleared") {
  StepNumbers numbers;
  std::vector<std::uint64_t> sum(AgreementWords::size(3, 0));
  const AgreementWords words{sum.data(), 3};
  words.digest(0) = words.digest(1) = 5;
  words.digest(2) = 6;
  const Decide decide{&numbers, words, 3, 1, false};
  decide();
  CHECK(numbers.outcome.differs == 2);
  words.digest(2) = 5;
  decide();
  CHECK(numbers.outcome.differs == 2);
  CHECK_FALSE(numbers.outcome.applied);
  ForgetDifference{&numbers}();
  decide();
  CHECK(numbers.outcome.differs == 0);
  CHECK(numbers.outcome.applied);
  CHECK(numbers.outcome.steps == 1);
}

TEST_CASE("ranks that applied different numbers of steps differ, although they have the same settings") {
  for (const index_t steps : {0, 1}) {
    StepNumbers numbers[2];
    numbers[1].outcome.steps = steps;
    std::vector<std::uint64_t> sum(AgreementWords::size(2, 0)), of_rank(sum.size());
    for (int r = 0; r < 2; ++r) {
      Offer{&numbers[r], {of_rank.data(), 2}, r, 7}();
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += of_rank[i];
    }
    CHECK(AgreementWords{sum.data(), 2}.differs() == steps);
  }
}

}  // namespace
}  // namespace tessera::engine
