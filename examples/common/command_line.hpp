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

/// What differs from example to example.
struct Program {
  std::string name;
  std::string about;
  std::string data;                                ///< what --data takes
  std::map<std::string, double> learning_rates{};  ///< the optimizers that there are, and the rate unless --lr is given
  std::vector<std::string> precisions{"fp32", "bf16", "bf16-remainder", "bf16-stochastic", "fp16"};
  bool timeline = true;                          ///< whether there is --timeline
  std::function<void(CLI::App&)> add_options{};  ///< further ones of its own
  std::function<void()> settle{};                ///< once all are read; throws WrongOption
};

/// One line, the first of `why`, on standard error; 2.
int wrong(const std::string& program, const std::string& why);

/// The same with 1, of what went wrong in the work itself.
int failed(const std::string& program, const std::string& why);

/// `status`, or failed() where what was printed on standard output has not all been taken.
int flushed(const std::string& program, int status);

/// Removes the report and the timeline of an earlier run: what is there afterwards is of this one, which has ended.
void begin_files(const Options& options);

/// Nothing if the options are good; else what main returns: 0 after --help, 2 after one line that says what is wrong.
std::optional<int> parse(Options& options, const Program& of, int argc, char** argv);

}  // namespace example
