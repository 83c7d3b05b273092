// Both examples in one precision: what takes the compiler long is the optimizer, which is the same in both.
#include <tessera/precision/precision.hpp>

#include "mlp_cuda/train.cuh"
#include "transformer_cuda/train.cuh"

std::optional<example::Result> mlp::cuda::train_bf16(const example::Options& options,
                                                     const example::cuda::Options& device_options,
                                                     const Split& digits) {
  return train_in<tessera::Bf16>(options, device_options, digits);
}

std::optional<transformer::Outcome> transformer::cuda::train_bf16(const Options& options,
                                                                  const example::cuda::Options& device_options,
                                                                  const Text& text) {
  return train_in<tessera::Bf16>(options, device_options, text);
}
