// expect: such as Fp32 or Bf16; its Parameter is a floating-point type of 2 or 4 bytes
#include <tessera/tessera.hpp>
struct Byte {
  Byte() = default;
  explicit Byte(float x) : of(static_cast<signed char>(16 * x)) {}
  operator float() const { return of / 16.0f; }
  signed char of = 0;
};
struct Fp8 : tessera::Bf16 {
  static constexpr const char* name = "Fp8";
  using Parameter = Byte;
};
template class tessera::Sharded<tessera::Adam, tessera::Stage1, Fp8>;
