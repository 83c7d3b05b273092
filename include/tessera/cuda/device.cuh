// The device that a thread's calls go to.
#pragma once

#include <cuda_runtime.h>

#include <tessera/cuda/error.cuh>

namespace tessera::device {

/// The device that the calling thread uses now. Throws CudaError: no device, no driver.
inline int current() {
  int device = 0;
  cuda_check(cudaGetDevice(&device), "finding the current CUDA device");
  return device;
}

inline int attribute(int device, cudaDeviceAttr which) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, device), "reading an attribute of a CUDA device");
  return value;
}

/// Makes `device` the calling thread's for as long as it lives.
class Use {
 public:
  explicit Use(int device) : before_(current()), device_(device) {
    if (device_ != before_) cuda_check(cudaSetDevice(device_), "choosing a CUDA device");
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    if (device_ != before_) cudaSetDevice(before_);
  }

 private:
  int before_;
  int device_;
};

}  // namespace tessera::device
