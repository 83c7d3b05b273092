// Training with ranks on devices: the host's loop, with the model on a device.
#pragma once

#include <optional>

#include <tessera/precision/precision.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "transformer/train.hpp"
#include "transformer_cuda/train.hpp"
#include "transformer_cuda/work.cuh"

namespace transformer::cuda {

template <class Rule>
std::optional<Outcome> train_with(const Options& options, const example::cuda::Options& device_options,
                                  const Text& text) {
  using tessera::Bf16, tessera::Bf16Remainder, tessera::Bf16Stochastic, tessera::Fp16, tessera::Fp32;
  const auto run = [&]<class Stage, class Precision>() {
    require_fit<Rule, Precision, tessera::Recording<tessera::CudaLocal>>(options);
    return run_ranks(options, device_options, [&](auto& comm) {
      return transformer::train<Machine<Windows, Work>, Rule, Stage, Precision>(comm, options, text, nullptr);
    });
  };
  return example::with_policies<Fp32, Bf16, Bf16Remainder, Bf16Stochastic, Fp16>(options, run);
}

}  // namespace transformer::cuda
