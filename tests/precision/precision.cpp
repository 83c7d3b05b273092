#include <doctest/doctest.h>

#include <string>

#include <tessera/precision/precision.hpp>

namespace tessera {
namespace {

struct NoReduction {
  [[maybe_unused]] static constexpr const char* name = "wrong";
  using Parameter = float;
  using Gradient = float;
  using Accumulation = float;
  using Master = float;
  using State = float;
};
struct PointerParameters : Fp32 {
  using Parameter = float*;
};

static_assert(PrecisionPolicy<Fp32> && PrecisionPolicy<Bf16> && PrecisionPolicy<Bf16ReduceFp32> &&
              PrecisionPolicy<Fp16> && PrecisionPolicy<Fp16ReduceFp32>);
static_assert(PrecisionPolicy<Bf16Remainder> && PrecisionPolicy<Bf16Stochastic>);
static_assert(scales_loss<Fp16> && scales_loss<Fp16ReduceFp32> && !scales_loss<Fp32> && !scales_loss<Bf16>);

// A remainder completes a bfloat16, and nothing else.
struct HalfRemainder : Fp16 {
  using Master = Remainder;
};
struct DoubleSums : Fp32 {
  using Accumulation = double;
};
static_assert(!PrecisionPolicy<HalfRemainder> && !PrecisionPolicy<DoubleSums>);
static_assert(!PrecisionPolicy<NoReduction>);
static_assert(!PrecisionPolicy<PointerParameters>);
static_assert(!PrecisionPolicy<float>);

TEST_CASE("what travels in 16 bits has two bytes and what is updated has four") {
  CHECK(sizeof(Bf16::Parameter) == 2);
  CHECK(sizeof(Bf16::Gradient) == 2);
  CHECK(sizeof(Bf16::Master) == 4);
  CHECK(master_bytes<Fp32> == 0);
  CHECK(master_bytes<Bf16> == 4);
  CHECK(master_bytes<Fp16> == 4);
  CHECK(sizeof(Fp16ReduceFp32::Gradient) == 2);
  CHECK(sizeof(Fp16ReduceFp32::Reduction) == 4);
  CHECK(master_bytes<Bf16Remainder> == 2);
  CHECK(master_bytes<Bf16Stochastic> == 0);
}

}  // namespace
}  // namespace tessera
