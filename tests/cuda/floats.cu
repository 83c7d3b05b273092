// A device converts 16-bit floats with its own instructions, which give the host's bits for every number.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <vector>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/cuda/exec/for_each.cuh>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/array.hpp"

namespace tessera {
namespace {

template <class From, class To>
struct Convert {
  const From* from;
  To* to;
  TESSERA_HD void operator()(index_t i) const noexcept { to[i] = static_cast<To>(from[i]); }
};

template <class To, class From>
std::vector<To> converted(const std::vector<From>& values) {
  const testing::Array<From> from(values);
  const testing::Array<To> to(static_cast<index_t>(values.size()));
  const CudaStream stream;
  device::for_each(static_cast<index_t>(values.size()), Convert<From, To>{from.data(), to.data()}, 4, stream.get());
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  return to.get();
}

TEST_CASE_TEMPLATE("all 65536 values widen to the host's float", Half, bfloat16, float16) {
  std::vector<Half> halves(65536);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) halves[bits].bits = static_cast<std::uint16_t>(bits);
  const auto wide = converted<float>(halves);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    const float expected = halves[i];
    if (expected != expected)
      REQUIRE(wide[i] != wide[i]);  // the bits of a NaN are not specified
    else
      REQUIRE(bits_as<std::uint32_t>(wide[i]) == bits_as<std::uint32_t>(expected));
  }
}

TEST_CASE_TEMPLATE("floats narrow to the host's bits: also ties, overflow, subnormals and NaN", Half, bfloat16,
                   float16) {
  std::mt19937 random(8);
  std::vector<float> floats;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    Half half;
    half.bits = static_cast<std::uint16_t>(bits);
    const auto wide = bits_as<std::uint32_t>(static_cast<float>(half));
    for (const std::uint32_t more : {0u, 0xfffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u})
      floats.push_back(bits_as<float>(wide + more));
    floats.push_back(bits_as<float>(static_cast<std::uint32_t>(random())));
  }
  const auto narrow = converted<Half>(floats);
  for (std::size_t i = 0; i < floats.size(); ++i) REQUIRE(narrow[i].bits == Half(floats[i]).bits);
}

}  // namespace
}  // namespace tessera
