// A program that is linked (not compiled) with -Ofast: it and its threads flush denormals to zero from the start. Its
// training must have the bits of a program without -Ofast.
#include <cstdint>
#include <cstdio>
#include <vector>

#include <tessera/tessera.hpp>

namespace {

using namespace tessera;

std::vector<std::uint32_t> trained() {
  std::vector<std::uint32_t> bits;
  run_ranks(2, [&](Local& comm) {
    constexpr index_t n = 4096;
    std::vector<float> weights(n), gradients(n);
    for (index_t i = 0; i < n; ++i)
      weights[static_cast<std::size_t>(i)] = bits_as<float>(static_cast<std::uint32_t>(i * 7919));  // denormals
    Sharded<AdamW, Stage1, Fp32, Local> optimizer(comm, Layout::flat(n), {.parameters = weights, .gradients = gradients},
                                                  AdamW{.lr = 1e-2, .epsilon = 1e-30});
    for (int step = 0; step < 3; ++step) {
      optimizer.gather(0, n);
      auto pass = optimizer.backward();
      for (index_t i = 0; i < n; ++i)
        gradients[static_cast<std::size_t>(i)] =
            bits_as<float>(static_cast<std::uint32_t>((i % 90 << 23) + i * 104729 % (1 << 23) + comm.rank()));
      pass.ready(0, n);
      optimizer.step();
    }
    optimizer.finish();
    if (comm.rank() == 0)
      for (const float weight : weights) bits.push_back(bits_as<std::uint32_t>(weight));
  });
  return bits;
}

}  // namespace

int main() {
  volatile float smallest = 0x1p-149f;
  if (smallest * 3 != 0) {
    std::puts("skipped: this linker's -Ofast leaves denormals as they are");
    return 77;
  }
  const auto flushed = trained();
  const exec::DefaultFloatEnvironment ieee;
  if (smallest * 3 == 0 || trained() != flushed) {
    std::puts("weights have other bits in a program that is linked with -Ofast");
    return 1;
  }
  std::printf("%zu words agree\n", flushed.size());
}
