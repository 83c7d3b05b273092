// Settings: the options and hyperparameters, which must be the same on every rank. Ranks compare a digest of them in
// the construction and in every step. If digests differ, ranks compare the numbers one by one, so that the error names
// the different one.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/core/list.hpp>
#include <tessera/engine/step/exchange.hpp>
#include <tessera/exec/float_environment.hpp>
#include <tessera/layout/options.hpp>
#include <tessera/rule/hyperparameters.hpp>
#include <tessera/rule/rules.hpp>

namespace tessera::engine {

struct StepSettings {
  index_t micro_batches = 1;  ///< over all ranks
  double clip_norm = 0;
  index_t evaluations = 0;  ///< how often evaluation began or ended
};

/// One number, as a word with the same bits on every rank that has the same number.
struct Setting {
  const char* name = "";
  const char* rule = nullptr;  ///< of a hyperparameter; null: an option
  int group = 0;   ///< hyperparameter group
  int index = 0;   ///< index among the hyperparameters, for one without a name
  std::uint64_t word = 0;
  bool floating = false;
  bool has_sign = false;  ///< a signed integer

  template <class Number>
  static constexpr Setting of(const char* name, Number number, const char* rule = nullptr, int group = 0,
                              std::size_t index = 0) {
    constexpr bool floating = std::is_floating_point_v<Number>;
    Setting setting{name, rule, group, static_cast<int>(index), 0, floating, std::is_signed_v<Number>};
    if constexpr (floating)
      setting.word = bits_as<std::uint64_t>(static_cast<double>(number));
    else
      setting.word = static_cast<std::uint64_t>(static_cast<std::int64_t>(number));
    return setting;
  }
};

/// rules: rule::Set::Groups, here and below.
template <class Groups, class Visit>
void for_each_setting(const Groups& rules, Visit visit) {
  rule::for_each_type(rules, [&]<class Rule>(auto, const std::vector<Rule>& groups) {
    for (std::size_t group = 0; group < groups.size(); ++group)
      rule::for_each_hyperparameter(groups[group], [&](const char* name, std::size_t index, auto number) {
        visit(Setting::of(name, number, Rule::name, static_cast<int>(group), index));
      });
  });
}

/// Calls visit(setting) for all settings that may change between steps.
template <class Groups, class Visit>
void for_each_setting(const StepSettings& step, const Groups& rules, Visit visit) {
  visit(Setting::of("the step's micro-batches", step.micro_batches));
  visit(Setting::of("Options::clip_norm", step.clip_norm));
  visit(Setting::of("calls of begin_evaluation() and end_evaluation()", step.evaluations));
  for_each_setting(rules, visit);
}

/// Calls visit(setting) for all settings of the construction.
template <class Groups, class Visit>
void for_each_setting(const Options& options, const Groups& rules, Visit visit) {
  options.for_each_number([&](const char* name, auto number) { visit(Setting::of(name, number)); });
  for_each_setting(rules, visit);
}

template <class Chosen, class Groups>
std::uint64_t digest_of(const Chosen& chosen, const Groups& rules) {
  const exec::DefaultFloatEnvironment ieee;  // a rank that flushes denormals would convert them to other doubles
  core::Digest digest;
  for_each_setting(chosen, rules, [&](const Setting& setting) { digest.add(static_cast<std::int64_t>(setting.word)); });
  return digest.value();
}

/// The number in decimal, with enough digits to distinguish it from its neighbours.
inline std::string text_of(const Setting& setting, std::uint64_t word) {
  if (!setting.floating) return setting.has_sign ? message({static_cast<long>(word)}) : message({word});
  const double number = bits_as<double>(word);
  char digits[40];
  for (const int precision : {6, 9, 17}) {
    std::snprintf(digits, sizeof digits, "%.*g", precision, number);
    if (std::strtod(digits, nullptr) == number) break;
  }
  return digits;
}

/// "AdamW.lr of group 1", or an option's name.
inline std::string name_of(const Setting& setting) {
  if (!setting.rule) return setting.name;
  const std::string name = std::string_view(setting.name) == "hyperparameter"
                               ? message({"hyperparameter ", setting.index})
                               : std::string(setting.name);
  return message({setting.rule, ".", name, " of group ", setting.group});
}

/// The first difference of the first rank that differs from rank 0; empty if there is none. words: of rank 0, then of
/// rank 1, ...
inline std::string difference_of(const core::List<Setting>& settings, std::span<const std::uint64_t> words) {
  const std::size_t n = settings.size();
  for (std::size_t at = n; at < words.size(); ++at)
    if (words[at] != words[at % n])
      return message({name_of(settings[at % n]), ": rank 0 has ", text_of(settings[at % n], words[at % n]),
                      ", rank ", at / n, " has ", text_of(settings[at % n], words[at])});
  return {};
}

/// Exchanges all settings and returns difference_of(), the same on every rank. Called if digests differ. Requires the
/// same number of rules on all ranks. chosen: StepSettings, Options or ControlState. Blocks until all ranks have called
/// it. Throws CommError.
template <class Chosen, class Groups, class Executor, class Queue>
std::string exchange_settings(const Chosen& chosen, const Groups& rules, const Executor& executor, Queue& queue,
                              int rank, int world) {
  core::List<Setting> settings;
  for_each_setting(chosen, rules, [&](const Setting& setting) { settings.push_back(setting); });
  core::List<std::uint64_t> mine;
  for (const Setting& setting : settings) mine.push_back(setting.word);
  const auto words = gather_words(executor, queue, rank, world, {mine.data(), mine.size()}, Tag{"settings", 0, 0});
  return difference_of(settings, {words.data(), words.size()});
}

}  // namespace tessera::engine
