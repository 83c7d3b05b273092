#include <doctest/doctest.h>

#include <tessera/layout/tensor.hpp>

namespace tessera {
namespace {

TEST_CASE("handles are equal if they name the same unit or tensor") {
  CHECK(Unit{2} == Unit{2});
  CHECK(Unit{2} != Unit{3});
  CHECK(Tensor{1} == Tensor{1});
  CHECK(Tensor{1} != Tensor{0});
}

TEST_CASE("by default a tensor is trained with the first rule and its first hyperparameter group") {
  constexpr TensorOptions options;
  static_assert(options.rule == 0 && options.group == 0 && !options.frozen);
  static_assert(TensorOptions{.group = 1, .rule = 2}.rule == 2);
}

}  // namespace
}  // namespace tessera
