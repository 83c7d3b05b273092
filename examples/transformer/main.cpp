// Trains a small language model on a text, sharded over ranks that are threads, at any ZeRO stage; then generates text.
#include <optional>

#include "transformer/program.hpp"
#include "transformer/train_on_host.hpp"

int main(int argc, char** argv) {
  transformer::Options options;
  const example::Program program{.name = "transformer",
                                 .about = "Trains a decoder-only transformer over bytes on a text, at any ZeRO stage.",
                                 .data = transformer::data_option,
                                 .learning_rates = {{"sgd", 0.5}, {"adam", 0.003}, {"adamw", 0.003}},
                                 .add_options = [&](CLI::App& app) { transformer::add_options(app, options); }};
  openblas_set_num_threads(1);  // ranks are the threads
  return transformer::run(options, program, argc, argv, [&](const transformer::Text& text) {
    const auto train = options.optimizer == "sgd"    ? transformer::train_sgd
                       : options.optimizer == "adam" ? transformer::train_adam
                                                     : transformer::train_adamw;
    return std::optional(train(options, text));
  });
}
