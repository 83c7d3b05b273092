// The main function of the tests in this folder. Without a device they are skipped and counted as skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdio>

#include "memory_limit.hpp"

int main(int argc, char** argv) {
#if !defined(__CUDACC__)  // not tested with a driver that maps memory itself
  tessera::limit_memory();
#endif
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess || devices == 0) {
    std::printf("skipped: there is no CUDA device (%s)\n", cudaGetErrorString(error));
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
