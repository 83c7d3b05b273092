// examples/mlp_cuda against the emulated runtime. Of its policies the one whose loss is scaled, which a kernel reads
// from the optimizer; over CudaLocal alone.
#include <tessera/rule/adamw.hpp>

#include "common/cuda/run.cuh"
#include "common/policies.hpp"
#include "mlp/train.hpp"
#include "mlp_cuda/train.hpp"
#include "mlp_cuda/work.cuh"

namespace mlp::cuda {

std::optional<example::Result> train(const example::Options& options, const example::cuda::Options& device_options,
                                     const Split& digits) {
  return example::with_policies<tessera::Fp16>(options, [&]<class Stage, class Precision>() {
    return run_local(options, device_options, [&](auto& comm) {
      return mlp::train<Machine<Samples, Work>, tessera::AdamW, Stage, Precision>(comm, options, digits, nullptr);
    });
  });
}

}  // namespace mlp::cuda
