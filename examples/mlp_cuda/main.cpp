// Trains a small network on handwritten digits on CUDA devices, sharded over ranks that are threads or processes, at
// any ZeRO stage: the training loop of examples/mlp with another model.
#include "common/cuda/options.hpp"
#include "mlp/program.hpp"
#include "mlp_cuda/train.hpp"

int main(int argc, char** argv) {
  example::Options options;
  example::cuda::Options device_options;
  const example::Program program{.name = "mlp_cuda",
                                 .about = "Trains 784-128-10 on MNIST on CUDA devices at any ZeRO stage.",
                                 .data = "folder with the data",
                                 .learning_rates = {{"sgd", 0.1}, {"adam", 0.003}, {"adamw", 0.003}},
                                 .timeline = false,
                                 .add_options = [&](CLI::App& app) { add_options(app, device_options); },
                                 .settle = [&] { settle(device_options, options); }};
  return mlp::run(options, program, argc, argv, [&](const mlp::Split& digits) {
    const auto train = options.optimizer == "sgd"    ? mlp::cuda::train_sgd
                       : options.optimizer == "adam" ? mlp::cuda::train_adam
                                                     : mlp::cuda::train_adamw;
    return train(options, device_options, digits);
  });
}
