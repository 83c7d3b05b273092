// Training with ranks on devices: what the command line sees of it.
#pragma once

#include <optional>

#include "common/cuda/options.hpp"
#include "transformer/options.hpp"
#include "transformer/outcome.hpp"
#include "transformer/text.hpp"

namespace transformer::cuda {

/// In the process that has rank 0: its outcome. AdamW; fp32 or bf16. Throws example::WrongOption without a device.
std::optional<Outcome> train(const Options& options, const example::cuda::Options& device_options, const Text& text);

// What it takes its pick of (examples/cuda).
std::optional<Outcome> train_fp32(const Options& options, const example::cuda::Options& device_options,
                                  const Text& text);
std::optional<Outcome> train_bf16(const Options& options, const example::cuda::Options& device_options,
                                  const Text& text);

}  // namespace transformer::cuda
