#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <tessera/cuda/nccl/error.cuh>

namespace tessera {
namespace {

TEST_CASE("an NCCL error says which action failed and why") {
  CHECK_NOTHROW(nccl::check(ncclSuccess, "splitting"));
  CHECK_NOTHROW(nccl::check(ncclInProgress, "splitting"));
  CHECK_THROWS_WITH_AS(nccl::check(ncclRemoteError, "splitting"),
                       doctest::Contains("splitting: NCCL: remote process exited or there was a network error"),
                       CommError);
}

TEST_CASE("the first error of several calls is kept") {
  nccl::FirstError error;
  error(ncclSuccess);
  error(ncclInProgress);
  CHECK(error.get() == ncclSuccess);
  error(ncclInvalidUsage);
  error(ncclInternalError);
  error(ncclSuccess);
  CHECK(error.get() == ncclInvalidUsage);
}

TEST_CASE("element types map to NCCL's types") {
  static_assert(nccl::sum_type<float>() == ncclFloat);
  static_assert(nccl::sum_type<double>() == ncclDouble);
  static_assert(nccl::sum_type<float16>() == ncclHalf);
  static_assert(nccl::sum_type<bfloat16>() == ncclBfloat16);
  static_assert(nccl::sum_type<std::int64_t>() == ncclInt64);
  static_assert(nccl::sum_type<std::uint64_t>() == ncclUint64);
  CHECK(nccl::bytes_of<double>(index_t{1} << 40) == std::size_t{1} << 43);
}

}  // namespace
}  // namespace tessera
