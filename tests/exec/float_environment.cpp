#include <tessera/exec/float_environment.hpp>

#include <cfenv>

#include <doctest/doctest.h>

#include "float_environment.hpp"

using namespace tessera;
using tessera::testing::computes_by_default;
using tessera::testing::StrangeEnvironment;

TEST_CASE("the thread computes in the IEEE default environment while the object exists, and then in its own again") {
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

TEST_CASE("if the thread is in the default environment, the register is not written and no exception flag is lost") {
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
TEST_CASE("exceptions that the thread traps are not trapped while the object exists") {
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
