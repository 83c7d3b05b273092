// What may be chosen of a run on devices besides. Sees neither CUDA nor CLI11: nvcc reads a header three times.
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

/// With nccl the launcher says how many ranks there are. Throws WrongOption.
void settle(const Options& options, example::Options& run);

}  // namespace example::cuda
