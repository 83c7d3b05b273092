#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <string>

#include <tessera/cuda/nccl/operations.cuh>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/nccl_ranks.hpp"

namespace tessera {
namespace {

using nccl::Operation;
using nccl::Operations;
using testing::gather_of_bucket;

void post(Operations& operations, index_t index, cudaStream_t stream) {
  Operation& operation = operations.begin(gather_of_bucket(index));
  REQUIRE(cudaEventRecord(operation.began, stream) == cudaSuccess);
  REQUIRE(cudaEventRecord(operation.done, stream) == cudaSuccess);
  operations.posted();
}

TEST_CASE("the oldest operation that is not done is reported with its call and number") {
  Operations operations;
  const CudaStream stream;
  CHECK(operations.oldest() == nullptr);
  for (index_t i = 0; i < 3; ++i) post(operations, i, stream.get());
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  CHECK(operations.oldest() == nullptr);
#if !defined(__CUDACC__)  // a device may be done by now
  post(operations, 3, stream.get());
  emulated::delay(stream.get());
  if (const Operation* const oldest = operations.oldest())
    CHECK(oldest->text() == "all_gather of 4096 float in parts of 1024 (parameters of bucket 3, pass 2), operation 3");
#endif
}

TEST_CASE("any number of operations may be in flight, and they complete in order") {
  Operations operations;
  const CudaStream stream;
  std::uint64_t last = 0;
  for (index_t i = 0; i < 300; ++i) {
    post(operations, i, stream.get());
    if (const Operation* const oldest = operations.oldest()) {
      CHECK(oldest->number >= last);
      CHECK(oldest->call.tag.index == static_cast<index_t>(oldest->number));
      last = oldest->number;
    }
  }
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  CHECK(operations.oldest() == nullptr);
}

TEST_CASE("nobody has waited yet for an operation that begins, also if its place had another before") {
  Operations operations;
  const CudaStream stream;
  bool waited_for = false;
  for (index_t i = 0; i < 300; ++i) {
    Operation& operation = operations.begin(gather_of_bucket(i));
    waited_for = waited_for || operation.waited_for;
    operation.waited_for = true;
    REQUIRE(cudaEventRecord(operation.began, stream.get()) == cudaSuccess);
    REQUIRE(cudaEventRecord(operation.done, stream.get()) == cudaSuccess);
    operations.posted();
    REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  }
  CHECK_FALSE(waited_for);
}

TEST_CASE("operations that were begun and not posted, or forgotten, are not waited for") {
  Operations operations;
  const CudaStream stream;
  operations.begin(gather_of_bucket(0));
  CHECK(operations.oldest() == nullptr);
  post(operations, 1, stream.get());
  operations.forget();
  CHECK(operations.oldest() == nullptr);
}

}  // namespace
}  // namespace tessera
