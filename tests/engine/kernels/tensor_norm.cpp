#include <doctest/doctest.h>

#include <tessera/engine/kernels/tensor_norm.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("a finished norm is the square root of its exact sum, each of the two on its own") {
  TensorNorm norms[2]{};
  norms[1].weights.add(9);
  norms[1].weights.add(16);
  norms[1].norm_input.add(4);
  const FinishNorms finish{norms};
  finish(0);
  finish(1);
  CHECK(norms[0].of_weights() == 0);
  CHECK(norms[1].of_weights() == 5);
  CHECK(norms[1].of_norm_input() == 2);
}

TEST_CASE("normalised sums have the same value, in digits that do not depend on the order of additions") {
  ExactSum forward, backward;
  for (int i = 0; i < 100; ++i) forward.add(1 + i * 1e-3);
  for (int i = 99; i >= 0; --i) backward.add(1 + i * 1e-3);
  ExactSum sums[2]{forward, backward};
  const NormaliseSums normalise{sums};
  normalise(0);
  normalise(1);
  CHECK(sums[0].value() == forward.value());
  for (int i = 0; i < ExactSum::limbs; ++i) CHECK(sums[0].digit(i) == sums[1].digit(i));
}

}  // namespace
}  // namespace tessera::engine
