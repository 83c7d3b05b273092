// Tests of the reference itself, with results that can be computed by hand.
#include <reference/reference.hpp>

#include <doctest/doctest.h>

#include <limits>
#include <numeric>
#include <vector>

using namespace reference;

TEST_CASE("bf16 rounds to nearest, ties to even") {
  CHECK(to_bf16(1.0f) == 1.0f);
  CHECK(to_bf16(1.0f + 0x1p-8f) == 1.0f);             // tie, even below
  CHECK(to_bf16(1.0f + 3 * 0x1p-8f) == 1.0f + 0x1p-6f);  // tie, even above
  CHECK(to_bf16(1.0f + 0x1p-8f + 0x1p-20f) == 1.0f + 0x1p-7f);
  CHECK(std::isinf(to_bf16(std::numeric_limits<float>::max())));
  CHECK(std::isnan(to_bf16(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("the exact sum rounds once") {
  CHECK(exact_sum({}) == 0.0);
  CHECK(exact_sum({0.0, 3.5, 0.25}) == 3.75);
  CHECK(exact_sum({1.0, 0x1p-53}) == 1.0);                       // tie, even below
  CHECK(exact_sum({1.0, 0x1p-53, 0x1p-1074}) == 1.0 + 0x1p-52);  // which sequential addition would lose
  CHECK(exact_sum({1.0, 0x1p-54, 0x1p-54}) == 1.0);
  CHECK(exact_sum({1.0, 3 * 0x1p-53}) == 1.0 + 0x1p-51);  // tie, even above
  CHECK(exact_sum({0x1p-1074, 0x1p-1074}) == 0x1p-1073);
  CHECK(exact_sum(std::vector<double>(1000, 0.1)) == doctest::Approx(100.0));
}

TEST_CASE("the tree merges equal blocks and folds the rest from the last to the first") {
  // 2^24 + 1 rounds to 2^24, so the order of the additions changes the result.
  const float big = 0x1p24f;
  CHECK(tree_sum({{big}, {1}, {1}})[0] == big);                       // (0+1)+2
  CHECK(tree_sum({{big}, {0}, {1}, {1}})[0] == big + 2);              // (0+1)+(2+3)
  CHECK(tree_sum({{big}, {0}, {0}, {0}, {1}, {1}})[0] == big + 2);    // ((0+1)+(2+3))+(4+5)
  CHECK(tree_sum({{big}, {0}, {0}, {0}, {1}, {0}, {1}})[0] == big + 2);  // ((0+1)+(2+3))+((4+5)+6)
}

TEST_CASE("the norm counts blocks from each unit's start") {
  Floats ones(130, 1.0f);
  CHECK(square_sum(ones, {65, 0, 65}) == 130.0);
  // Lane 0 of one block has 2^60 and 1, and the sum loses the 1; in a unit of its own it would not.
  CHECK(square_sum({0x1p30f, 0, 0, 0, 0, 0, 0, 0, 1.0f, 0x1p4f}, {10}) == 0x1p60 + 0x1p8);
  CHECK(square_sum({0x1p27f, 0x1p0f}, {2}) == 0x1p54);
}

TEST_CASE("a step of Sgd is the mean times the learning rate, and clipping shortens it") {
  Problem problem;
  problem.unit_sizes = {2};
  problem.rules = {{.kind = Kind::sgd, .lr = 0.5}};
  problem.weights = {1.0f, 2.0f};
  Trainer plain(problem);
  plain.step({{2, 4}, {4, 4}});  // mean 3, 4
  CHECK(plain.norm == 5.0);
  CHECK(plain.master == Floats{-0.5f, 0.0f});
  problem.clip_norm = 2.5;
  Trainer clipped(problem);
  clipped.step({{2, 4}, {4, 4}});
  CHECK(clipped.norm == 5.0);
  CHECK(clipped.master[0] == doctest::Approx(1 - 0.75).epsilon(1e-6));
}

TEST_CASE("the first step of Adam moves by the learning rate, and the master weight is finer than bf16") {
  Problem problem;
  problem.unit_sizes = {1};
  problem.rules = {{.kind = Kind::adam, .lr = 0.001}};
  problem.weights = {1.0f};
  problem.precision = reference::Precision::bf16;
  Trainer trainer(problem);
  trainer.step({{8.0f}});
  CHECK(trainer.master[0] == doctest::Approx(0.999).epsilon(1e-6));
  CHECK(trainer.parameter[0] == 1.0f);
}

TEST_CASE("a gradient that is not finite skips the step") {
  Problem problem;
  problem.unit_sizes = {1};
  problem.rules = {Rule{}};
  problem.weights = {1.0f};
  Trainer trainer(problem);
  trainer.step({{std::numeric_limits<float>::infinity()}});
  CHECK(!trainer.applied);
  CHECK(trainer.steps == 0);
  CHECK(trainer.master[0] == 1.0f);
  CHECK(trainer.state[0].first == 0.0f);
}
