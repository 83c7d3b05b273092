#include <tessera/exec/float_environment.hpp>

#include <cfenv>

#include <doctest/doctest.h>

#include "float_environment.hpp"

using namespace tessera;
using tessera::testing::computes_by_default;
using tessera::testing::StrangeEnvironment;

TEST_CASE("for as long as it lives the thread computes as IEEE's default says, and then as before") {
  CHECK(computes_by_default());
  {
    const StrangeEnvironment strange;
    CHECK(!computes_by_default());
    {
      const exec::DefaultFloatEnvironment ieee;
      CHECK(computes_by_default());
      {
        const exec::DefaultFloatEnvironment again;
        CHECK(computes_by_default());
      }
      CHECK(computes_by_default());
    }
    CHECK(StrangeEnvironment::holds());
  }
  CHECK(computes_by_default());
}

TEST_CASE("nothing is written, and no flag is lost, where the thread is in the default environment") {
  std::feclearexcept(FE_ALL_EXCEPT);
  {
    const exec::DefaultFloatEnvironment ieee;
    volatile float zero = 0, one = 1, infinite = one / zero;
    static_cast<void>(infinite);
  }
  CHECK(std::fetestexcept(FE_DIVBYZERO) != 0);
  std::feclearexcept(FE_ALL_EXCEPT);
}

#if defined(__x86_64__) && defined(__GLIBC__)
TEST_CASE("what the thread has made a trap is none meanwhile") {
  feenableexcept(FE_DIVBYZERO | FE_INVALID);
  {
    const exec::DefaultFloatEnvironment ieee;
    volatile float zero = 0, none = zero / zero;
    CHECK(none != none);
  }
  CHECK(fegetexcept() == (FE_DIVBYZERO | FE_INVALID));
  fedisableexcept(FE_ALL_EXCEPT);
}
#endif
