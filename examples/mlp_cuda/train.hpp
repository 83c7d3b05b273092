// Training with ranks on devices: what the command line sees of it.
#pragma once

#include <optional>

#include "common/cuda/options.hpp"
#include "common/options.hpp"
#include "common/result.hpp"
#include "mlp/mnist.hpp"

namespace mlp::cuda {

/// In the process that has rank 0: its result. AdamW; fp32 or bf16. Throws example::WrongOption without a device.
std::optional<example::Result> train(const example::Options& options, const example::cuda::Options& device_options,
                                     const Split& digits);

// What it takes its pick of (examples/cuda).
std::optional<example::Result> train_fp32(const example::Options& options, const example::cuda::Options& device_options,
                                          const Split& digits);
std::optional<example::Result> train_bf16(const example::Options& options, const example::cuda::Options& device_options,
                                          const Split& digits);

}  // namespace mlp::cuda
