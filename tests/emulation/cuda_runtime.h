// The CUDA runtime for tests, on the host. Sources of tests/cuda include this file instead of the toolkit's and are
// compiled as plain C++. Namespace emulated below has the functions by which a test configures the machine.
//
// It shows: any order of operations that streams and events allow can occur (scheduler.hpp), the host has no access to
// device memory (memory.hpp), and the rules of capture are enforced (capture.hpp). It cannot show: speed, the rounding
// of a device's machine code (which may fuse operations), or weak memory ordering between threads.
#pragma once

#include "device.hpp"
#include "runtime_memory.hpp"
#include "runtime_streams.hpp"

namespace emulated {

/// From now on operations are drawn with `seed`. The initial seed is TESSERA_EMULATED_SEED in the environment, or 1.
inline void seed(std::uint64_t seed) {
  const Lock lock(machine().mutex);
  machine().random.seed(seed);
}

/// Operations of `stream` run only if no other stream's can, as after a kernel that spins.
inline void delay(cudaStream_t stream, bool on = true) {
  const Lock lock(machine().mutex);
  find(stream)->delayed = on;
}

/// The number of devices, initially 1; none has peer access.
inline void devices(int count) {
  const Lock lock(machine().mutex);
  machine().devices = std::min(count, max_devices);
  for (int device = 0; device < max_devices; ++device) machine().reach[device] = DeviceSet{1} << device;
}

/// Whether a host access to device memory ends the program; initially it does.
inline void guard_memory(bool on) {
  const Lock lock(machine().mutex);
  machine().memory.guard(on);
}

/// Every call fails with `error`, as without a driver. cudaSuccess ends this.
inline void broken(cudaError_t error) {
  const Lock lock(machine().mutex);
  machine().broken = error;
}

}  // namespace emulated
