#include <tessera/cuda/runtime/error.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <string>

namespace tessera {
namespace {

TEST_CASE("an error says which action failed and why") {
  CHECK_NOTHROW(cuda_check(cudaSuccess, "doing nothing"));
  CHECK_THROWS_WITH_AS(cuda_check(cudaErrorNoDevice, "making a stream"), "making a stream: there is no CUDA device",
                       CudaError);
  const CudaError error("copying", cudaErrorInvalidValue);
  CHECK(error.code == cudaErrorInvalidValue);
  CHECK(std::string(error.what()) ==
        std::string("copying: ") + cudaGetErrorString(cudaErrorInvalidValue) + " (cudaErrorInvalidValue)");
}

TEST_CASE("a driver that is too old is named with its CUDA version and the required one") {
  int driver = 0, runtime = 0;
  REQUIRE(cudaDriverGetVersion(&driver) == cudaSuccess);
  REQUIRE(cudaRuntimeGetVersion(&runtime) == cudaSuccess);
  const std::string what = CudaError("starting", cudaErrorInsufficientDriver).what();
  CHECK(what == "starting: the driver is for CUDA " + device::version_name(driver) +
                    ", this program needs one for CUDA " + device::version_name(runtime));
  CHECK(device::version_name(12080) == "12.8");
}

TEST_CASE("an error that was reported is not reported again by the next call") {
  CHECK_THROWS_AS(cuda_check(cudaSetDevice(1000), "choosing a device"), CudaError);
  CHECK(cudaGetLastError() == cudaSuccess);
}

}  // namespace
}  // namespace tessera
