// Training with ranks on devices, in one precision: the host's loop, and this machine's model.
#pragma once

#include <optional>

#include <tessera/rule/adamw.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "transformer/train.hpp"
#include "transformer_cuda/train.hpp"
#include "transformer_cuda/work.cuh"

namespace transformer::cuda {

template <class Precision>
std::optional<Outcome> train_in(const Options& options, const example::cuda::Options& device_options,
                                const Text& text) {
  using tessera::AdamW;
  require_fit<AdamW, Precision, tessera::Recording<tessera::CudaLocal>>(options);
  const auto at_stage = [&]<class Stage, class P>() {
    return run_ranks(options, device_options, [&](auto& comm) {
      return transformer::train<Machine<Windows, Work>, AdamW, Stage, P>(comm, options, text, nullptr);
    });
  };
  return example::with_stage<Precision>(options.stage, at_stage);
}

}  // namespace transformer::cuda
