// Training with ranks on devices: the host's loop, with the model on a device.
#pragma once

#include <optional>

#include <tessera/precision/precision.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "mlp/train.hpp"
#include "mlp_cuda/train.hpp"
#include "mlp_cuda/work.cuh"

namespace mlp::cuda {

template <class Rule>
std::optional<example::Result> train_with(const example::Options& options, const example::cuda::Options& device_options,
                                          const Split& digits) {
  using tessera::Bf16, tessera::Bf16Remainder, tessera::Bf16Stochastic, tessera::Fp16, tessera::Fp32;
  const auto run = [&]<class Stage, class Precision>() {
    return run_ranks(options, device_options, [&](auto& comm) {
      return mlp::train<Machine<Samples, Work>, Rule, Stage, Precision>(comm, options, digits, nullptr);
    });
  };
  return example::with_policies<Fp32, Bf16, Bf16Remainder, Bf16Stochastic, Fp16>(options, run);
}

}  // namespace mlp::cuda
