#include <doctest/doctest.h>

#include <tessera/core/config.hpp>

TEST_CASE("the version is one number that grows with each of its three parts") {
  CHECK(tessera::version == TESSERA_VERSION_MAJOR * 10000L + TESSERA_VERSION_MINOR * 100L + TESSERA_VERSION_PATCH);
  CHECK(TESSERA_VERSION_MINOR < 100);
  CHECK(TESSERA_VERSION_PATCH < 100);
}

// g++ has no such pragma: exec/vectorize.hpp sets an attribute instead, which tests/exec/vectorize.cpp checks.
#if defined(__clang__)
namespace {

TESSERA_HD TESSERA_ALWAYS_INLINE float fused_or_not(float a, float b, float c) {
  TESSERA_ROUND_EACH_OPERATION
  return a * b + c;
}

}  // namespace

TEST_CASE("a multiplication and an addition under the macro are rounded separately") {
  volatile float a = 1 + 0x1p-12f, c = -1 - 0x1p-11f;
  CHECK(fused_or_not(a, a, c) == 0);  // if fused, the last bit of the square would remain: 2^-24
}
#endif
