// What bench/update_cuda measures on the device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// Bytes per second of the samples of one run, interleaved.
struct UpdateRates {
  std::string precision;
  std::vector<double> update{};  ///< the library's fused update, as step() runs it
  std::vector<double> bare{};    ///< the same rule written by hand
  std::vector<double> copy{};    ///< device memory to device memory
};

/// Throws tessera::CudaError: no device, too little memory.
UpdateRates measure_fp32(std::int64_t elements, int repeats);
UpdateRates measure_bf16(std::int64_t elements, int repeats);
UpdateRates measure_fp16(std::int64_t elements, int repeats);
