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

/// Seconds, a sample each.
struct StepTimes {
  std::int64_t bytes = 0;             ///< of all ranks on a device: what the plan says
  bool fits = false;                  ///< else nothing was measured
  std::vector<double> communication;  ///< every bucket's reductions and gathers, back to back and nothing beside them
  std::vector<double> norm, update;   ///< of what a rank owns, all ranks at a time
  std::vector<double> step;           ///< forward and backward compute nothing
  std::vector<double> hidden_step;    ///< they compute as long as communication lasts: kernels that spin, one a unit
  double compute = 0;                 ///< how long those are
};

/// world 0: one rank over NCCL; else as many over CudaLocal, on one device. AdamW in fp32.
/// Throws tessera::CudaError: no device.
StepTimes measure_step(const StepSetting& setting, int stage, int world);
