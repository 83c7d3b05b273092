// Training with ranks on devices: what the command line sees of it.
#pragma once

#include <optional>

#include "common/cuda/options.hpp"
#include "transformer/options.hpp"
#include "transformer/outcome.hpp"
#include "transformer/text.hpp"

namespace transformer::cuda {

/// In the process that has rank 0: its outcome. AdamW in fp32 or bf16: each precision more takes nvcc half a minute.
/// Throws example::WrongOption without a device.
std::optional<Outcome> train(const Options& options, const example::cuda::Options& device_options, const Text& text);

}  // namespace transformer::cuda
