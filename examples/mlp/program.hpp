// The common parts of the programs that train the network on digits, on the host and on devices.
#pragma once

#include <exception>
#include <optional>
#include <stdexcept>
#include <string>

#include "common/command_line.hpp"
#include "common/report.hpp"
#include "mlp/mnist.hpp"

namespace mlp {

/// Reads options and digits, trains, and prints the result. Returns main's status. train(digits) returns a result in
/// the process that prints.
template <class Train>
int run(example::Options& options, const example::Program& program, int argc, char** argv, Train train) {
  if (const auto status = example::parse(options, program, argc, argv)) return *status;
  try {
    Split digits;
    try {
      digits = load_split(options.data);
    } catch (const std::runtime_error& error) {
      throw example::WrongOption(error.what());
    }
    if (options.batch > digits.training.size())
      throw example::WrongOption("--batch " + std::to_string(options.batch) + " is more than the " +
                                 std::to_string(digits.training.size()) + " training images");
    example::begin_files(options);
    const std::optional<example::Result> result = train(digits);
    if (!result) return 0;
    example::print(*result);
    return example::end(program.name, options, *result);
  } catch (const example::WrongOption& error) {
    return example::wrong(program.name, error.what());
  } catch (const std::exception& error) {
    return example::failed(program.name, error.what());
  }
}

}  // namespace mlp
