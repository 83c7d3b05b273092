// What bench/step_cuda measures on the device.
#pragma once

#include <cstdint>
#include <vector>

struct StepSetting {
  std::int64_t elements = std::int64_t{1} << 30;  ///< of the model
  int units = 64;
  std::int64_t bucket_bytes = std::int64_t{64} << 20;
  int prefetch = 1;
  int steps = 10;  ///< that are measured
};

/// Seconds, one per sample. One rank's numbers stand for all ranks, which work at the same time.
struct StepTimes {
  std::int64_t bytes = 0;            ///< of all ranks on a device, from the plan
  bool fits = false;                 ///< if false, nothing was measured
  std::vector<double> reductions;    ///< of every bucket, back to back without other work
  std::vector<double> gathers;       ///< of every bucket, once
  double gathers_a_step = 1;         ///< stage 3: before forward, and before backward for buckets that are not held
  std::vector<double> clear;         ///< of all gradients, before backward adds to them
  std::vector<double> norm, update;  ///< of a rank's shard
  std::vector<double> step;          ///< without compute in forward and backward
  std::vector<double> compute;       ///< kernels that spin as long as communication can overlap: see .cu
  std::vector<double> hidden_step;   ///< a step with this compute
};

/// world 0: one rank over NCCL; otherwise that many over CudaLocal on one device. AdamW in fp32.
/// Throws tessera::CudaError: no device.
StepTimes measure_step(const StepSetting& setting, int stage, int world);
