// Whether vector code rounds each operation. clang's -ffp-contract=fast fuses multiplications and additions in spite of
// the code's pragmas. No macro reports the flag, so the compiled code is tested at run time.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/exec/float_environment.hpp>
#include <tessera/exec/vectorize.hpp>

namespace tessera::exec {

namespace vector_code {

// The square of 1 + 2^-12 has a bit of value 2^-24, which a float near 1 cannot store. The difference to the rounded
// square is therefore 0 only if the multiplication was rounded.
template <class User>
struct SquareLess {
  const volatile float* root;
  const volatile float* square;
  float* difference;

  TESSERA_ALWAYS_INLINE void operator()() const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float x = *root;
    *difference = x * x - *square;
  }
};

}  // namespace vector_code

/// Whether run_as(isa, code) rounds each operation, under the compiler flags of User's translation unit.
template <class User>
bool rounds_each_operation(Isa isa) noexcept {
  const volatile float root = 1 + 0x1p-12f;
  const volatile float square = 1 + 0x1p-11f;
  float difference = 1;
  const DefaultFloatEnvironment ieee;
  run_as(isa, vector_code::SquareLess<User>{&root, &square, &difference});
  return difference == 0;
}

/// Throws OptionError unless `rounds`.
inline void require_each_operation_rounded(bool rounds) {
  if (rounds) return;
  throw OptionError(
      "this program was compiled with -ffp-contract=fast, under which clang fuses products and sums against the code's "
      "pragmas, so that weights would have other bits on another machine: compile with -ffp-contract=on, clang's "
      "default");
}

}  // namespace tessera::exec
