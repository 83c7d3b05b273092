// Helpers of the emulation's tests.
#pragma once

#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <vector>

namespace emulated_test {

inline constexpr int seeds = 40;

struct Stream {
  cudaStream_t handle = nullptr;
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE(cudaStreamCreateWithFlags(&handle, flags) == cudaSuccess);
  }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  operator cudaStream_t() const { return handle; }
};

struct Event {
  cudaEvent_t handle = nullptr;
  Event() { REQUIRE(cudaEventCreateWithFlags(&handle, cudaEventDisableTiming) == cudaSuccess); }
  ~Event() { cudaEventDestroy(handle); }
  Event(const Event&) = delete;
  operator cudaEvent_t() const { return handle; }
};

// Allocates on the current device.
template <class T>
struct Array {
  T* data = nullptr;
  std::size_t n;
  explicit Array(std::size_t n) : n(n) { REQUIRE(cudaMalloc(&data, n * sizeof(T)) == cudaSuccess); }
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    REQUIRE(cudaMemcpy(data, values.data(), n * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(nullptr) == cudaSuccess);  // otherwise the copy could still be in flight
  }
  ~Array() { cudaFree(data); }
  Array(const Array&) = delete;

  std::vector<T> values() const {
    std::vector<T> values(n);
    REQUIRE(cudaMemcpy(values.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }
};

template <class... Parameters, class... Arguments>
cudaError_t launch(cudaStream_t stream, unsigned blocks, unsigned threads, void (*kernel)(Parameters...),
                   const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// Not commutative, so that the order of two calls changes the result.
inline __global__ void add(int* out, int value) { *out = *out * 2 + value; }

// Runs `f`, which is expected to end the program, in a child process without output.
template <class F>
int signal_of(const F& f) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    for (const int signal : {SIGSEGV, SIGBUS, SIGABRT}) std::signal(signal, SIG_DFL);
    if (std::freopen("/dev/null", "w", stderr) != nullptr) f();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace emulated_test
