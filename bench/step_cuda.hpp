// What bench/step_cuda measures on the device.
#pragma once

#include <cstdint>
#include <vector>

struct StepSetting {
  std::int64_t elements = std::int64_t{1} << 30;  ///< of the model
  int units = 64;
  std::int64_t bucket_bytes = std::int64_t{64} << 20;
  int prefetch = 1;
  int steps = 10;  ///< measured
};

/// Seconds, a sample each. What a rank does stands for all, which do it at a time.
struct StepTimes {
  std::int64_t bytes = 0;            ///< of all ranks on a device: what the plan says
  bool fits = false;                 ///< else nothing was measured
  std::vector<double> reductions;    ///< every bucket's, back to back and nothing beside them
  std::vector<double> gathers;       ///< the same, once
  double gathers_a_step = 1;         ///< stage 3: before forward, and before backward where a bucket is not held
  std::vector<double> clear;         ///< of all gradients, before backward adds to them
  std::vector<double> norm, update;  ///< of what a rank owns
  std::vector<double> step;          ///< forward and backward compute nothing
  std::vector<double> compute;       ///< kernels that spin, one a unit, as long as what can hide behind them: see .cu
  std::vector<double> hidden_step;   ///< a step that computes them
};

/// world 0: one rank over NCCL; else as many over CudaLocal, on one device. AdamW in fp32.
/// Throws tessera::CudaError: no device.
StepTimes measure_step(const StepSetting& setting, int stage, int world);
