// The translation unit without optimization, and main: both units must have the same bits, for every vector width.
#include <cstdio>
#include <vector>

#include "two_units.hpp"

std::vector<std::uint32_t> bits_of_b(tessera::exec::Isa isa);

int main() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("skipped: this processor has no AVX2");
    return 77;
  }
#endif
  const auto expected = two_units::bits(tessera::exec::Isa::baseline);
  for (const tessera::exec::Isa isa : {tessera::exec::Isa::baseline, tessera::exec::Isa::avx2, tessera::exec::Isa::avx512}) {
    if (isa > tessera::exec::best_isa()) continue;
    if (two_units::bits(isa) != expected || bits_of_b(isa) != expected) {
      std::printf("version %d: the two translation units disagree\n", static_cast<int>(isa));
      return 1;
    }
  }
  std::printf("%zu words agree\n", expected.size());
}
