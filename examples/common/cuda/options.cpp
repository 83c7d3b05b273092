#include "common/cuda/options.hpp"

#include <CLI/CLI.hpp>

#include <tessera/bootstrap/launch.hpp>
#include <tessera/core/error.hpp>

namespace example::cuda {

void add_options(CLI::App& app, Options& options) {
  app.add_option("--communicator", options.communicator,
                 "local: ranks are threads; nccl: processes, each started by torchrun or with its variables, which say "
                 "how many ranks there are")
      ->check(CLI::IsMember({"local", "nccl"}))
      ->capture_default_str();
  app.add_option("--devices", options.devices, "that local's ranks are dealt to, by number, as 0,1; default: all")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
}

void settle(const Options& options, example::Options& run) {
  if (options.communicator != "nccl") return;
  try {
    run.ranks = tessera::Launch::from_environment().world;
  } catch (const tessera::Error& error) {
    throw WrongOption(std::string("--communicator nccl: ") + error.what());
  }
}

}  // namespace example::cuda
