#include <doctest/doctest.h>

#include <string>

#include <tessera/precision/precision.hpp>

namespace tessera {
namespace {

struct NoReduction {
  [[maybe_unused]] static constexpr const char* name = "wrong";
  using Parameter = float;
  using Gradient = float;
  using Master = float;
};
struct PointerParameters {
  static constexpr const char* name = "wrong";
  using Parameter = float*;
  using Gradient = float;
  using Reduction = float;
  using Master = float;
};

static_assert(PrecisionPolicy<Fp32> && PrecisionPolicy<Bf16>);
static_assert(!PrecisionPolicy<NoReduction>);
static_assert(!PrecisionPolicy<PointerParameters>);
static_assert(!PrecisionPolicy<float>);

TEST_CASE("what travels in Bf16 has two bytes and what is updated has four") {
  CHECK(sizeof(Bf16::Parameter) == 2);
  CHECK(sizeof(Bf16::Gradient) == 2);
  CHECK(sizeof(Bf16::Master) == 4);
}

}  // namespace
}  // namespace tessera
