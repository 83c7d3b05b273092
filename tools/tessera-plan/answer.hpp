// What the program is asked, and what it answers. Bytes are the library's plan, seconds its step time.
#pragma once

#include <array>
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
  tessera::Network network{.within = {3e-6, 400e9}, .between = {10e-6, 50e9}, .ranks_a_node = 8};
  tessera::Options options{};

  /// Bytes of a device that are left for the optimizer; not negative.
  double room() const { return device_memory > activations ? device_memory - activations : 0; }

  /// Seconds of forward and backward of one micro-batch, 6 operations a parameter and token, a third of them in
  /// forward. Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1.
  double pass_seconds() const { return compute > 0 ? compute : 6 * static_cast<double>(parameters) * tokens / flops; }
};

struct StageAnswer {
  int stage = 0;
  tessera::Plan plan{};
  tessera::StepTime time{};
  bool fits = false;

  double exposed_share() const { return time.seconds > 0 ? time.exposed / time.seconds : 0; }
};

struct Answer {
  std::array<StageAnswer, 4> stages{};
  std::optional<int> recommended;
  std::optional<int> ranks_that_fit;   ///< where nothing fits: the least ranks on which a stage would
  std::optional<int> stage_that_fits;  ///< and the lowest of those that would on so many
  std::string reason;                  ///< a sentence or two
};

/// Throws tessera::OptionError for what the library or the network refuses.
StageAnswer answer(const Question& question, int stage, int ranks);
Answer answer(const Question& question);

/// Worlds that fill their nodes: the i-th, from 1; the largest int for one that no int can hold.
int world(const Question& question, int i);

/// "1.75 GB".
std::string bytes(double n);
/// "1 rank", "64 ranks".
std::string ranks(int n);
/// "312 ms".
std::string seconds(double s);
/// "7.00 billion".
std::string count(double n);

}  // namespace plan
