// Trains a small network on handwritten digits, sharded over ranks that are threads, at any ZeRO stage.
#include <cstdio>
#include <exception>

#include "common/command_line.hpp"
#include "common/report.hpp"
#include "mlp/train.hpp"

namespace {

const example::Program mlp_program{.name = "mlp",
                                   .about = "Trains 784-128-10 on MNIST at any ZeRO stage.",
                                   .data = "folder with the data",
                                   .learning_rates = {{"sgd", 0.1}, {"adam", 0.003}, {"adamw", 0.003}}};

}  // namespace

int main(int argc, char** argv) {
  example::Options options;
  const std::string& program = mlp_program.name;
  if (const auto status = example::parse(options, mlp_program, argc, argv)) return *status;
  openblas_set_num_threads(1);  // ranks are the threads
  try {
    mlp::Split digits;
    try {
      digits = mlp::load_split(options.data);
    } catch (const std::runtime_error& error) {
      return example::wrong(program, error.what());
    }
    if (options.batch > digits.training.size())
      return example::wrong(program, "--batch " + std::to_string(options.batch) + " is more than the " +
                                         std::to_string(digits.training.size()) + " training images");
    const auto train = options.optimizer == "sgd"    ? mlp::train_sgd
                       : options.optimizer == "adam" ? mlp::train_adam
                                                     : mlp::train_adamw;
    const example::Result result = train(options, digits.training, digits.held_out);
    example::print(result);
    example::write_report(program, options, result);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program.c_str(), error.what());
    return 1;
  }
}
