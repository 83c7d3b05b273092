// Compiled with -ffp-contract=fast for a machine with fused operations. g++ does not fuse in the library's code. clang
// does, in spite of the code's pragmas, and must be refused.
#include <cstdio>
#include <string>

#include <tessera/tessera.hpp>

using namespace tessera;

int main() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("skipped: this processor has no fused operations");
    return 77;
  }
#endif
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {4});
  std::string refused;
  try {
    Sharded<AdamW, Stage1, Fp32, Self> optimizer(Self{}, layout, {}, AdamW{});
  } catch (const OptionError& error) {
    refused = error.what();
  }
  std::printf("%s\n", refused.empty() ? "built" : refused.c_str());
#if defined(__clang__)
  return refused.find("-ffp-contract=fast") == std::string::npos;
#else
  return !refused.empty();
#endif
}
