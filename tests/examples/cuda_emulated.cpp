// The examples on devices against the emulated runtime, in one precision: with 16-bit parameters and gradients.
#include <tessera/precision/precision.hpp>

#include "mlp_cuda/train.cuh"
#include "transformer_cuda/train.cuh"

std::optional<example::Result> mlp::cuda::train(const example::Options& options,
                                                const example::cuda::Options& device_options, const Split& digits) {
  return train_in<tessera::Bf16>(options, device_options, digits);
}

std::optional<transformer::Outcome> transformer::cuda::train(const Options& options,
                                                             const example::cuda::Options& device_options,
                                                             const Text& text) {
  return train_in<tessera::Bf16>(options, device_options, text);
}
