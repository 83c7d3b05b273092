#include "transformer_cuda/train.hpp"

namespace transformer::cuda {

std::optional<Outcome> train(const Options& options, const example::cuda::Options& device_options, const Text& text) {
  return (options.precision == "bf16" ? train_bf16 : train_fp32)(options, device_options, text);
}

}  // namespace transformer::cuda
