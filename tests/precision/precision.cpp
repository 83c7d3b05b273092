#include <doctest/doctest.h>

#include <cstddef>
#include <string>

#include <tessera/precision/precision.hpp>

namespace tessera {
namespace {

struct NoReduction {
  [[maybe_unused]] static constexpr const char* name = "wrong";
  using Parameter = float;
  using Gradient = float;
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

// A remainder completes a bfloat16 only.
struct HalfRemainder : Fp16 {
  using Master = Remainder;
};
static_assert(!PrecisionPolicy<HalfRemainder>);
static_assert(!PrecisionPolicy<NoReduction>);
static_assert(!PrecisionPolicy<PointerParameters>);
static_assert(!PrecisionPolicy<float>);

// A user's number type, of any size.
template <std::size_t bytes>
struct Number {
  Number() = default;
  explicit Number(float) {}
  operator float() const { return 0; }
  unsigned char of[bytes]{};
};
struct WithoutDefault : Number<2> {
  explicit WithoutDefault(float x) : Number<2>(x) {}
};

template <class T>
struct Parameters : Bf16 {
  using Parameter = T;
};
template <class T>
struct Gradients : Bf16 {
  using Gradient = T;
};
template <class T>
struct States : Bf16 {
  using State = T;
};
static_assert(PrecisionPolicy<Parameters<Number<2>>> && PrecisionPolicy<Parameters<Number<4>>>);
static_assert(!PrecisionPolicy<Parameters<Number<1>>> && !PrecisionPolicy<Parameters<Number<3>>> &&
              !PrecisionPolicy<Parameters<Number<8>>> && !PrecisionPolicy<Parameters<double>>);
static_assert(PrecisionPolicy<Gradients<Number<1>>> && PrecisionPolicy<Gradients<double>> &&
              PrecisionPolicy<States<Number<1>>>);
static_assert(!PrecisionPolicy<Gradients<Number<3>>> && !PrecisionPolicy<States<Number<16>>>);
static_assert(!PrecisionPolicy<Gradients<int>> && !PrecisionPolicy<Gradients<bool>> && !PrecisionPolicy<States<short>>);
static_assert(!PrecisionPolicy<Gradients<const float>> && !PrecisionPolicy<Gradients<WithoutDefault>>);

TEST_CASE("16-bit types have two bytes and the weights that a rule updates have four") {
  CHECK(sizeof(Bf16::Parameter) == 2);
  CHECK(sizeof(Bf16::Gradient) == 2);
  CHECK(sizeof(Bf16::Master) == 4);
  CHECK(precision::master_bytes<Fp32> == 0);
  CHECK(precision::master_bytes<Bf16> == 4);
  CHECK(precision::master_bytes<Fp16> == 4);
  CHECK(sizeof(Fp16ReduceFp32::Gradient) == 2);
  CHECK(sizeof(Fp16ReduceFp32::Reduction) == 4);
  CHECK(precision::master_bytes<Bf16Remainder> == 2);
  CHECK(precision::master_bytes<Bf16Stochastic> == 0);
}

TEST_CASE("a parameter can be computed again from a float beside it, and from nothing else") {
  CHECK(precision::parameter_follows_master<Bf16>);
  CHECK(precision::parameter_follows_master<Fp16>);
  CHECK_FALSE(precision::parameter_follows_master<Fp32>);
  CHECK_FALSE(precision::parameter_follows_master<Bf16Remainder>);
  CHECK_FALSE(precision::parameter_follows_master<Bf16Stochastic>);
}

}  // namespace
}  // namespace tessera
