// What the program is asked, and what it answers. Bytes are the library's plan, seconds its step time.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <tessera/model/network.hpp>
#include <tessera/model/step_time.hpp>
#include <tessera/layout/options.hpp>
#include <tessera/layout/plan.hpp>

namespace plan {

using tessera::index_t;

/// More are not asked about.
inline constexpr int most_ranks = 1000000;

struct Question {
  index_t parameters = 0;
  int layers = 0;  ///< of equal size, each a unit
  int ranks = 0;
  std::string rule = "AdamW";
  std::string precision = "Bf16";
  double device_memory = 80e9;     ///< bytes
  double activations = 0;          ///< bytes of it that are not the optimizer's to use
  double tokens = 4096;            ///< of one micro-batch of a rank
  double flops = 4e14;             ///< that a rank sustains, a second
  double compute = 0;              ///< seconds of one micro-batch's forward and backward; 0: from tokens and flops
  double memory_bandwidth = 3e12;  ///< bytes a second
  tessera::Network network{.within = {3e-6, 400e9}, .between = {10e-6, 50e9}, .ranks_per_node = 8};
  tessera::Options options{};  ///< group_size 0: the ranks of a node

  /// Ranks of a group on so many ranks. It need not divide them.
  int group_size(int of_ranks) const {
    return options.group_size > 0 ? options.group_size : std::min(network.ranks_per_node, of_ranks);
  }

  /// Bytes of a device that are left for the optimizer; not negative.
  double room() const { return device_memory > activations ? device_memory - activations : 0; }

  /// Seconds of forward and backward of one micro-batch, 6 operations a parameter and token, a third of them in
  /// forward. Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1.
  double pass_seconds() const { return compute > 0 ? compute : 6 * static_cast<double>(parameters) * tokens / flops; }
};

struct StageAnswer {
  std::string stage;  ///< its name in the library
  bool has_groups = false;
  tessera::Plan plan{};
  tessera::StepTime time{};
  bool fits = false;

  double exposed_share() const { return time.seconds > 0 ? time.exposed / time.seconds : 0; }
};

struct Answer {
  std::vector<StageAnswer> stages;  ///< in the order of stages()
  std::optional<std::string> recommended;
  std::optional<int> ranks_that_fit;           ///< where nothing fits: the least ranks on which a stage would
  std::optional<std::string> stage_that_fits;  ///< and the first of those that would on so many
  std::string reason;                          ///< a sentence or two

  bool has_groups() const {
    return std::any_of(stages.begin(), stages.end(), [](const StageAnswer& stage) { return stage.has_groups; });
  }
};

/// Throws tessera::OptionError for what the library or the network refuses.
StageAnswer answer(const Question& question, const std::string& stage, int ranks);
/// Without the stages that shard over groups where a group is one rank or all: they are another stage then.
Answer answer(const Question& question);

/// The worlds that a stage can have, smallest first: they fill their nodes, and where the stage shards over groups they
/// divide into several.
class Worlds {
 public:
  Worlds(const Question& question, const std::string& stage);

  /// How many have at most so many ranks.
  int count(int ranks) const;
  /// The i-th, from 0.
  int operator[](int i) const;

 private:
  index_t node_;
  index_t small_step_;     // of those within a node
  index_t small_skipped_;  // its first multiples, which are none of them
  index_t small_;          // how many there are
  index_t large_step_;
  index_t large_skipped_;
};

/// "1.75 GB".
std::string bytes(double n);
/// "1 rank", "64 ranks".
std::string ranks(int n);
/// "312 ms".
std::string seconds(double s);
/// "7.00 billion".
std::string count(double n);

}  // namespace plan
