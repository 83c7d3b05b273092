// The command line that all examples share.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/options.hpp"

namespace CLI {
class App;
}

namespace example {

/// The differences between examples.
struct Program {
  std::string name;
  std::string about;
  std::string data;                                ///< the argument of --data
  std::map<std::string, double> learning_rates{};  ///< by optimizer: the rate unless --lr is given
  std::vector<std::string> precisions{"fp32", "bf16", "bf16-remainder", "bf16-stochastic", "fp16"};
  bool timeline = true;                          ///< whether --timeline exists
  std::function<void(CLI::App&)> add_options{};  ///< adds the example's own options
  std::function<void()> settle{};                ///< called after parsing; throws WrongOption
};

/// Prints the first line of `why` on standard error and returns 2.
int wrong(const std::string& program, const std::string& why);

/// As wrong(), for an error of the run: returns 1.
int failed(const std::string& program, const std::string& why);

/// Returns `status`, or failed() if output to standard output was lost.
int flushed(const std::string& program, int status);

/// Removes the report and the timeline of an earlier run, so that files found later are of this run.
void begin_files(const Options& options);

/// Nothing if the options are valid; otherwise main's status: 0 after --help, 2 after one line with the error.
std::optional<int> parse(Options& options, const Program& of, int argc, char** argv);

}  // namespace example
