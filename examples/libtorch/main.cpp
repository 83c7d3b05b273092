// Trains a libtorch module on handwritten digits, sharded over ranks that are threads, at any ZeRO stage.
#include <cblas.h>

#include <exception>

#include "common/command_line.hpp"
#include "common/report.hpp"
#include "libtorch/train.hpp"

int main(int argc, char** argv) {
  const example::Program about{.name = "libtorch",
                               .about = "Trains a libtorch module on MNIST at any ZeRO stage.",
                               .data = "folder with the data",
                               .learning_rates = {{"adamw", 0.003}}};
  const std::string& program = about.name;
  example::Options options;
  if (const auto status = example::parse(options, about, argc, argv)) return *status;
  // examples/mlp shows the precisions below fp32.
  if (options.precision != "fp32") return example::wrong(program, "--precision: this example has fp32 alone");
  openblas_set_num_threads(1);  // libtorch's BLAS too, where the system's is OpenBLAS
  try {
    mlp::Split digits;
    try {
      digits = mlp::load_split(options.data);
    } catch (const std::runtime_error& error) {
      return example::wrong(program, error.what());
    }
    if (options.batch % (std::int64_t{options.ranks} * options.micro_batches) != 0)
      return example::wrong(program, "--batch " + std::to_string(options.batch) + " does not divide by " +
                                         std::to_string(options.ranks) + " ranks times " +
                                         std::to_string(options.micro_batches) +
                                         " micro-batches: this example has no pass without one, mlp has");
    if (options.batch > digits.training.size())
      return example::wrong(program, "--batch " + std::to_string(options.batch) + " is more than the " +
                                         std::to_string(digits.training.size()) + " training images");
    example::begin_files(options);
    const example::Result result = libtorch::train(options, digits.training, digits.held_out);
    example::print(result);
    return example::end(program, options, result);
  } catch (const std::exception& error) {
    return example::failed(program, error.what());
  }
}
