// A user's program for devices. It runs without a device, since a rank's memory can be planned without one.
#include <cstdio>

#include <tessera/cuda.cuh>

int main() {
  using Optimizer = tessera::Sharded<tessera::AdamW, tessera::Stage2, tessera::Bf16, tessera::Nccl>;
  const tessera::index_t bytes = Optimizer::plan(tessera::Layout::flat(1000), 4).bytes();
  std::printf("%lld bytes a rank\n", static_cast<long long>(bytes));
  return bytes > 0 ? 0 : 1;
}
