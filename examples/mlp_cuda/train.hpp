// Training with ranks on devices: the interface for the command line.
#pragma once

#include <optional>

#include "common/cuda/options.hpp"
#include "common/options.hpp"
#include "common/result.hpp"
#include "mlp/mnist.hpp"

namespace mlp::cuda {

// Return the result in the process of rank 0. Throw example::WrongOption without a device. Defined in examples/cuda.
std::optional<example::Result> train_sgd(const example::Options& options, const example::cuda::Options& device_options,
                                         const Split& digits);
std::optional<example::Result> train_adam(const example::Options& options, const example::cuda::Options& device_options,
                                          const Split& digits);
std::optional<example::Result> train_adamw(const example::Options& options,
                                           const example::cuda::Options& device_options, const Split& digits);

}  // namespace mlp::cuda
