// Training with ranks on devices: the interface for the command line.
#pragma once

#include <optional>

#include "common/cuda/options.hpp"
#include "transformer/options.hpp"
#include "transformer/outcome.hpp"
#include "transformer/text.hpp"

namespace transformer::cuda {

// Return the outcome in the process of rank 0. Throw example::WrongOption without a device. Defined in examples/cuda.
std::optional<Outcome> train_sgd(const Options& options, const example::cuda::Options& device_options,
                                 const Text& text);
std::optional<Outcome> train_adam(const Options& options, const example::cuda::Options& device_options,
                                  const Text& text);
std::optional<Outcome> train_adamw(const Options& options, const example::cuda::Options& device_options,
                                   const Text& text);

}  // namespace transformer::cuda
