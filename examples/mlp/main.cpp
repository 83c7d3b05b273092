// Trains a small network on handwritten digits, sharded over ranks that are threads, at any ZeRO stage.
#include <optional>

#include "mlp/program.hpp"
#include "mlp/train_on_host.hpp"

int main(int argc, char** argv) {
  example::Options options;
  const example::Program program{.name = "mlp",
                                 .about = "Trains 784-128-10 on MNIST at any ZeRO stage.",
                                 .data = "folder with the data",
                                 .learning_rates = {{"sgd", 0.1}, {"adam", 0.003}, {"adamw", 0.003}}};
  openblas_set_num_threads(1);  // ranks are the threads
  return mlp::run(options, program, argc, argv, [&](const mlp::Split& digits) {
    const auto train = options.optimizer == "sgd"    ? mlp::train_sgd
                       : options.optimizer == "adam" ? mlp::train_adam
                                                     : mlp::train_adamw;
    return std::optional(train(options, digits));
  });
}
