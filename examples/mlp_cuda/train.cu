#include "mlp_cuda/train.hpp"

#include <tessera/rule/adamw.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "mlp/train.hpp"
#include "mlp_cuda/work.cuh"

namespace mlp::cuda {

std::optional<example::Result> train(const example::Options& options, const example::cuda::Options& device_options,
                                     const Split& digits) {
  const auto run = [&]<class Stage, class Precision>() {
    return example::cuda::run_ranks(options, device_options, [&](auto& comm) {
      return mlp::train<Machine<Samples, Work>, tessera::AdamW, Stage, Precision>(comm, options, digits, nullptr);
    });
  };
  return example::with_policies<tessera::Fp32, tessera::Fp16>(options, run);
}

}  // namespace mlp::cuda
