// The CUDA runtime for tests, on the host: sources of tests/cuda include this file in place of the toolkit's and are
// compiled as plain C++. What a test can say of the machine is in namespace emulated below.
//
// What it is for: any order of operations that streams and events allow can occur (scheduler.hpp), memory of a device
// is closed to the host (memory.hpp), and the rules of capture are kept (capture.hpp). What it cannot show: anything
// about speed, a machine code's own rounding (a device may fuse a product and a sum), or weak memory between threads.
#pragma once

#include "device.hpp"
#include "runtime_memory.hpp"
#include "runtime_streams.hpp"

namespace emulated {

/// From here on operations are drawn as `seed` has it. At first: by the environment's TESSERA_EMULATED_SEED, or by 1.
inline void seed(std::uint64_t seed) {
  const Lock lock(machine().mutex);
  machine().random.seed(seed);
}

/// Operations of `stream` run only where no other stream's can, as behind a kernel that spins.
inline void delay(cudaStream_t stream, bool on = true) {
  const Lock lock(machine().mutex);
  find(stream)->delayed = on;
}

/// How many devices there are, 1 at first; none can reach another's memory.
inline void devices(int count) {
  const Lock lock(machine().mutex);
  machine().devices = std::min(count, max_devices);
  for (int device = 0; device < max_devices; ++device) machine().reach[device] = DeviceSet{1} << device;
}

/// Whether a host access to a device's memory ends the program; it does at first.
inline void guard_memory(bool on) {
  const Lock lock(machine().mutex);
  machine().memory.guard(on);
}

/// Every call fails with `error`, as without a driver. cudaSuccess mends it.
inline void broken(cudaError_t error) {
  const Lock lock(machine().mutex);
  machine().broken = error;
}

}  // namespace emulated
