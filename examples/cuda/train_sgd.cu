// Both examples with one optimizer: they share its code for each stage, precision and communicator.
#include <tessera/rule/sgd.hpp>

#include "mlp_cuda/train.cuh"
#include "transformer_cuda/train.cuh"

std::optional<example::Result> mlp::cuda::train_sgd(const example::Options& options,
                                                    const example::cuda::Options& device_options, const Split& digits) {
  return train_with<tessera::Sgd>(options, device_options, digits);
}

std::optional<transformer::Outcome> transformer::cuda::train_sgd(const Options& options,
                                                                 const example::cuda::Options& device_options,
                                                                 const Text& text) {
  return train_with<tessera::Sgd>(options, device_options, text);
}
