// Trains a small language model on a text on CUDA devices, sharded over ranks that are threads or processes, at any
// ZeRO stage; then generates text. The training loop is that of examples/transformer, with another model.
#include "common/cuda/options.hpp"
#include "transformer/program.hpp"
#include "transformer_cuda/train.hpp"

int main(int argc, char** argv) {
  transformer::Options options;
  example::cuda::Options device_options;
  const example::Program program{
      .name = "transformer_cuda",
      .about = "Trains a decoder-only transformer over bytes on a text, on CUDA devices, at any ZeRO stage.",
      .data = transformer::data_option,
      .learning_rates = {{"sgd", 0.5}, {"adam", 0.003}, {"adamw", 0.003}},
      .timeline = false,
      .add_options =
          [&](CLI::App& app) {
            transformer::add_options(app, options);
            add_options(app, device_options);
          },
      .settle = [&] { settle(device_options, options); }};
  return transformer::run(options, program, argc, argv, [&](const transformer::Text& text) {
    const auto train = options.optimizer == "sgd"    ? transformer::cuda::train_sgd
                       : options.optimizer == "adam" ? transformer::cuda::train_adam
                                                     : transformer::cuda::train_adamw;
    return train(options, device_options, text);
  });
}
