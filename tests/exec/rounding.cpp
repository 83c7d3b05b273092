#include <tessera/exec/rounding.hpp>

#include <doctest/doctest.h>

#include "float_environment.hpp"

using namespace tessera;

namespace {

struct ThisTest {};

}  // namespace

TEST_CASE("this build rounds each operation in every version of its vector code, in any floating-point environment") {
  const auto check = [] {
    for (const exec::Isa isa : {exec::Isa::baseline, exec::Isa::avx2, exec::Isa::avx512})
      if (isa <= exec::best_isa()) CHECK(exec::rounds_each_operation<ThisTest>(isa));
  };
  check();
  const tessera::testing::StrangeEnvironment strange;
  check();
}

TEST_CASE("a program that fuses operations is refused with the name of the compiler flag") {
  CHECK_NOTHROW(exec::require_each_operation_rounded(true));
  CHECK_THROWS_WITH_AS(exec::require_each_operation_rounded(false), doctest::Contains("-ffp-contract=fast"), OptionError);
}
