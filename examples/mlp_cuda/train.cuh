// Training with ranks on devices, in one precision: the host's loop, and this machine's model.
#pragma once

#include <optional>

#include <tessera/rule/adamw.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "mlp/train.hpp"
#include "mlp_cuda/train.hpp"
#include "mlp_cuda/work.cuh"

namespace mlp::cuda {

template <class Precision>
std::optional<example::Result> train_in(const example::Options& options, const example::cuda::Options& device_options,
                                        const Split& digits) {
  const auto at_stage = [&]<class Stage, class P>() {
    return run_ranks(options, device_options, [&](auto& comm) {
      return mlp::train<Machine<Samples, Work>, tessera::AdamW, Stage, P>(comm, options, digits, nullptr);
    });
  };
  return example::with_stage<Precision>(options.stage, at_stage);
}

}  // namespace mlp::cuda
