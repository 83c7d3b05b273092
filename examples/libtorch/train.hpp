// The two runs that are compared: the same module on the same batches. No libtorch here, whose headers take a while.
#pragma once

#include "common/options.hpp"
#include "common/result.hpp"
#include "mlp/mnist.hpp"

namespace libtorch {

/// A libtorch module trained by Sharded<AdamW>, at the options' stage, ranks and micro-batches.
example::Result train(const example::Options& options, const mlp::Digits& training, const mlp::Digits& held_out);

/// The same by torch::optim::AdamW on one process: `losses`, `final_loss` and `accuracy` of the result alone.
example::Result train_alone(const example::Options& options, const mlp::Digits& training, const mlp::Digits& held_out);

}  // namespace libtorch
