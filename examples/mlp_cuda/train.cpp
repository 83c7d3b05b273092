#include "mlp_cuda/train.hpp"

namespace mlp::cuda {

std::optional<example::Result> train(const example::Options& options, const example::cuda::Options& device_options,
                                     const Split& digits) {
  return (options.precision == "bf16" ? train_bf16 : train_fp32)(options, device_options, digits);
}

}  // namespace mlp::cuda
