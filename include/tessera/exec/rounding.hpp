// Whether vector code rounds each operation. clang's -ffp-contract=fast fuses products and sums whatever the code's
// pragmas say, and no macro tells of that flag: only the machine code can be asked.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/exec/float_environment.hpp>
#include <tessera/exec/vectorize.hpp>

namespace tessera::exec {

namespace vector_code {

// The last bit of the square of 1 + 2^-12 is worth 2^-24, which a float near 1 cannot hold: rounded, it is the square
// that is subtracted here.
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

/// Whether run_as(isa, code) rounds each operation, with the flags of the translation unit that User's code is from.
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
      "this program was compiled with -ffp-contract=fast, under which clang fuses products and sums whatever the code "
      "says, so that weights would have other bits on another machine: compile with -ffp-contract=on, clang's default");
}

}  // namespace tessera::exec
