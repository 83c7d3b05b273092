// The two runs to compare: the same module on the same batches. Does not include libtorch, whose headers are slow to
// compile.
#pragma once

#include "common/options.hpp"
#include "common/result.hpp"
#include "mlp/mnist.hpp"

namespace libtorch {

/// A libtorch module trained by Sharded<AdamW>, at the options' stage, ranks and micro-batches.
example::Result train(const example::Options& options, const mlp::Digits& training, const mlp::Digits& held_out);

/// The same with torch::optim::AdamW in one process. Sets only `losses`, `final_loss` and `accuracy` of the result.
example::Result train_alone(const example::Options& options, const mlp::Digits& training, const mlp::Digits& held_out);

}  // namespace libtorch
