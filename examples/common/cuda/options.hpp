// Further options of a run on devices. Includes neither CUDA nor CLI11: nvcc reads a header three times.
#pragma once

#include <string>
#include <vector>

#include "common/options.hpp"

namespace CLI {
class App;
}

namespace example::cuda {

struct Options {
  std::string communicator = "local";
  std::vector<int> devices;
};

void add_options(CLI::App& app, Options& options);

/// With nccl the launcher determines the number of ranks. Throws WrongOption.
void settle(const Options& options, example::Options& run);

}  // namespace example::cuda
