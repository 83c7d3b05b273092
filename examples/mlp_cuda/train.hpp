// Training with ranks on devices: what the command line sees of it.
#pragma once

#include <optional>

#include "common/cuda/options.hpp"
#include "common/options.hpp"
#include "common/result.hpp"
#include "mlp/mnist.hpp"

namespace mlp::cuda {

// In the process that has rank 0: its result. Throw example::WrongOption without a device. Defined in examples/cuda.
std::optional<example::Result> train_sgd(const example::Options& options, const example::cuda::Options& device_options,
                                         const Split& digits);
std::optional<example::Result> train_adam(const example::Options& options, const example::cuda::Options& device_options,
                                          const Split& digits);
std::optional<example::Result> train_adamw(const example::Options& options,
                                           const example::cuda::Options& device_options, const Split& digits);

}  // namespace mlp::cuda
