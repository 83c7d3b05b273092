#include "transformer_cuda/train.hpp"

#include <tessera/rule/adamw.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "transformer/train.hpp"
#include "transformer_cuda/work.cuh"

namespace transformer::cuda {

std::optional<Outcome> train(const Options& options, const example::cuda::Options& device_options, const Text& text) {
  using tessera::AdamW;
  const auto run = [&]<class Stage, class Precision>() {
    require_fit<AdamW, Precision, tessera::Recording<tessera::CudaLocal>>(options);
    return example::cuda::run_ranks(options, device_options, [&](auto& comm) {
      return transformer::train<Machine<Windows, Work>, AdamW, Stage, Precision>(comm, options, text, nullptr);
    });
  };
  return example::with_policies<tessera::Fp32, tessera::Bf16>(options, run);
}

}  // namespace transformer::cuda
