#include <tessera/cuda/exec/digest.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <span>
#include <vector>

#include <tessera/core/bfloat16.hpp>
#include <tessera/cuda/runtime/stream.cuh>
#include <tessera/exec/host.hpp>

#include "cuda/array.hpp"

namespace tessera {
namespace {

template <class T>
void check(index_t n) {
  std::vector<T> values;
  for (index_t i = 0; i < n; ++i) values.push_back(T(static_cast<float>(i * 7919 % 2003) - 1001.0f));
  const testing::Array<T> there(values);
  const testing::Array<std::uint64_t> sum(1);
  const CudaStream stream;
  device::launch(device::digest_kernel<T>, 3, device::digest_tuning.threads, stream.get(), there.data(), n, sum.data());
  CHECK(value_digest::of_length(n) + sum.get()[0] == Host().digest(std::span<const T>(values)));
}

TEST_CASE("a device's digest equals the host's, for floats and 16-bit floats") {
  for (const index_t n : {1, 63, 255, 256, 257, 511, 512, 513, 1000, 5001, 20000}) {
    check<float>(n);
    check<bfloat16>(n);
  }
}

}  // namespace
}  // namespace tessera
