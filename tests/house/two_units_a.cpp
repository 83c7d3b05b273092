// The unit without optimisation, and main: both units must see the same bits.
#include <cstdio>

#include "two_units.hpp"

std::vector<std::uint32_t> bits_of_b();

int main() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("skipped: this processor has no AVX2");
    return 77;
  }
#endif
  const auto a = two_units::bits();
  const auto b = bits_of_b();
  if (a == b) {
    std::printf("%zu words agree\n", a.size());
    return 0;
  }
  std::puts("the two translation units disagree");
  return 1;
}
