// examples/transformer_cuda against the emulated runtime. Of its policies one with 16-bit parameters and gradients,
// over CudaLocal alone.
#include <tessera/rule/adamw.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "transformer/train.hpp"
#include "transformer_cuda/train.hpp"
#include "transformer_cuda/work.cuh"

namespace transformer::cuda {

std::optional<Outcome> train(const Options& options, const example::cuda::Options& device_options, const Text& text) {
  return example::with_policies<tessera::Bf16>(options, [&]<class Stage, class Precision>() {
    return run_local(options, device_options, [&](auto& comm) {
      return transformer::train<Machine<Windows, Work>, tessera::AdamW, Stage, Precision>(comm, options, text, nullptr);
    });
  });
}

}  // namespace transformer::cuda
