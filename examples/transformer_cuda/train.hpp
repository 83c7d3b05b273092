// Training with ranks on devices: what the command line sees of it.
#pragma once

#include <optional>

#include "common/cuda/options.hpp"
#include "transformer/options.hpp"
#include "transformer/outcome.hpp"
#include "transformer/text.hpp"

namespace transformer::cuda {

// In the process that has rank 0: its outcome. Throw example::WrongOption without a device. Defined in examples/cuda.
std::optional<Outcome> train_sgd(const Options& options, const example::cuda::Options& device_options,
                                 const Text& text);
std::optional<Outcome> train_adam(const Options& options, const example::cuda::Options& device_options,
                                  const Text& text);
std::optional<Outcome> train_adamw(const Options& options, const example::cuda::Options& device_options,
                                   const Text& text);

}  // namespace transformer::cuda
