// What a checkpoint says of itself beside the arrays, as JSON: tensors, rules and precision, the control state with all
// hyperparameters, and the caller's own data. docs/checkpoint.md has the format to the byte.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include <tessera/checkpoint/checksum.hpp>
#include <tessera/checkpoint/file.hpp>
#include <tessera/checkpoint/safetensors.hpp>
#include <tessera/core/error.hpp>
#include <tessera/engine/step/control_state.hpp>
#include <tessera/layout/layout.hpp>
#include <tessera/rule/rules.hpp>

namespace tessera::checkpoint {

using Json = nlohmann::ordered_json;

inline constexpr int format_version = 1;
inline constexpr index_t most_manifest_bytes = Header::most_bytes;

/// A number. JSON has no infinity and no NaN: they are texts.
template <class Number>
Json number_to_json(Number number) {
  if constexpr (std::is_floating_point_v<Number>) {
    const auto value = static_cast<double>(number);
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
    return value;
  } else {
    return number;
  }
}

/// Throws CheckpointError unless `value` fits into Number.
template <class Number>
double in_range(double value) {
  const double most = static_cast<double>(std::numeric_limits<Number>::max());
  if (value >= -most && value <= most) return value;
  throw CheckpointError(message({"the number ", value, " is out of range"}));
}

/// Throws nlohmann's exceptions, which reading() turns into CheckpointErrors, if `json` is no such number.
template <class Number>
void number_from_json(const Json& json, Number& number) {
  if constexpr (std::is_floating_point_v<Number>) {
    using Limits = std::numeric_limits<Number>;
    if (json == "nan") number = Limits::quiet_NaN();
    else if (json == "inf") number = Limits::infinity();
    else if (json == "-inf") number = -Limits::infinity();
    else number = static_cast<Number>(in_range<Number>(json.get<double>()));
  } else if constexpr (std::is_same_v<Number, bool>) {
    number = json.get<bool>();
  } else {
    using Limits = std::numeric_limits<Number>;
    if (!json.is_number_integer()) throw CheckpointError(message({"the number ", json.dump(), " is not an integer"}));
    const bool positive = json.is_number_unsigned() || json.get<std::int64_t>() >= 0;
    if (positive ? json.get<std::uint64_t>() > static_cast<std::uint64_t>(Limits::max())
                 : std::is_unsigned_v<Number> || json.get<std::int64_t>() < static_cast<std::int64_t>(Limits::min()))
      throw CheckpointError(message({"the number ", json.dump(), " is out of range"}));
    number = json.get<Number>();
  }
}

/// {"lr": 0.001, ...} as a list of pairs, because names may repeat: [["lr", 0.001], ...].
template <class Rule>
Json rule_to_json(const Rule& rule) {
  Json json = Json::array();
  rule::for_each_hyperparameter(rule, [&](const char* name, std::size_t, const auto& number) {
    json.push_back(Json::array({name, number_to_json(number)}));
  });
  return json;
}

template <class Rule>
void rule_from_json(const Json& json, Rule& rule) {
  std::size_t next = 0;
  rule::for_each_hyperparameter(rule, [&](const char* name, std::size_t, auto& number) {
    const Json& pair = json.at(next++);
    if (pair.at(0) != name)
      throw CheckpointError(message({"hyperparameter ", next, " of ", Rule::name, " is '", pair.at(0).get<std::string>(),
                                     "' in the checkpoint, and '", name, "' in this program"}));
    number_from_json(pair.at(1), number);
  });
  if (next != json.size())
    throw CheckpointError(message({Rule::name, " has ", json.size(), " hyperparameters in the checkpoint, and ", next,
                                   " in this program"}));
}

/// The number that hex() wrote. Throws CheckpointError for another text.
inline std::uint64_t number_of_hex(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (text.size() != 16 || error != std::errc{} || end != text.data() + text.size())
    throw CheckpointError(message({"'", text, "' is not a checksum"}));
  return number;
}

/// [{"name": "AdamW", "state": ["exp_avg", "exp_avg_sq"]}, ...]
template <class Rule>
Json describe_rules() {
  Json rules = Json::array();
  rule::for_each<Rule>([&](auto r) {
    using Type = typename rule::Set<Rule>::template At<r>;
    rules.push_back({{"name", Type::name}, {"state", Type::state_names}});
  });
  return rules;
}

inline Json describe_tensors(const Layout& layout) {
  Json tensors = Json::array();
  for (const Tensor t : layout.tensors()) {
    const auto shape = layout.shape(t);
    tensors.push_back({{"name", layout.name(t)},
                       {"shape", std::vector<index_t>(shape.begin(), shape.end())},
                       {"rule", layout.rule(t)},
                       {"group", layout.group(t)},
                       {"frozen", layout.frozen(t)}});
  }
  return tensors;
}

/// Calls visit(key, member) for the members of a control state that are numbers.
template <class State, class Visit>
void for_each_number(State& state, Visit visit) {
  constexpr std::size_t prefix = std::string_view("ControlState::").size();
  State::for_each_number(state, [&](const char* name, auto& number) { visit(name + prefix, number); });
}

template <class Groups>
Json groups_to_json(const Groups& rules) {
  Json json = Json::array();
  rule::for_each_type(rules, [&](auto, const auto& groups) {
    Json of_type = Json::array();
    for (const auto& rule : groups) of_type.push_back(rule_to_json(rule));
    json.push_back(of_type);
  });
  return json;
}

template <class Rule>
void groups_from_json(const Json& json, typename rule::Set<Rule>::Groups& rules) {
  rule::for_each<Rule>([&](auto r) {
    auto& groups = rule::of<r>(rules);
    const Json& of_type = json.at(static_cast<std::size_t>(r));
    groups.resize(of_type.size());
    for (std::size_t g = 0; g < groups.size(); ++g) rule_from_json(of_type.at(g), groups[g]);
  });
}

template <class Rule>
Json control_to_json(const ControlState<Rule>& state) {
  Json json = Json::object();
  for_each_number(state, [&](const char* name, const auto& number) { json[name] = number_to_json(number); });
  json["rules"] = groups_to_json(state.rules);
  json["first_rules"] = groups_to_json(state.first_rules);
  return json;
}

template <class Rule>
ControlState<Rule> control_from_json(const Json& json) {
  ControlState<Rule> state;
  for_each_number(state, [&](const char* name, auto& number) { number_from_json(json.at(name), number); });
  groups_from_json<Rule>(json.at("rules"), state.rules);
  groups_from_json<Rule>(json.at("first_rules"), state.first_rules);
  return state;
}

/// The JSON object of a file that with_checksum() made. Throws CheckpointError.
inline Json read_json(const std::string& path) {
  const std::string text = read_file(path, most_manifest_bytes);
  check_text(path, text);
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) throw CheckpointError(message({path, ": is not a JSON object"}));
  return json;
}

/// Throws CheckpointError, which names the first difference, unless the checkpoint's tensors are those of `layout`.
inline void check_tensors(const Json& tensors, const Layout& layout) {
  const Json own = describe_tensors(layout);
  const auto by_name = [](const Json& list) {
    std::map<std::string, const Json*> all;
    for (const Json& tensor : list)
      if (!all.emplace(tensor.at("name").get<std::string>(), &tensor).second)
        throw CheckpointError(message({"there are two tensors '", tensor.at("name").get<std::string>(),
                                       "': the names of units and tensors must be different when they are joined by a dot"}));
    return all;
  };
  const auto saved = by_name(tensors), mine = by_name(own);
  for (const auto& [name, tensor] : mine)
    if (!saved.contains(name)) throw CheckpointError(message({"has no tensor '", name, "', which the layout has"}));
  for (const auto& [name, tensor] : saved) {
    if (!mine.contains(name))
      throw CheckpointError(message({"has a tensor '", name, "', which the layout does not have"}));
    for (const char* what : {"shape", "rule", "group", "frozen"})
      if (const Json& now = mine.at(name)->at(what); tensor->at(what) != now)
        throw CheckpointError(message({"tensor '", name, "' has ", what, " ", tensor->at(what).dump(),
                                       " in the checkpoint, and ", now.dump(), " in the layout"}));
  }
}

}  // namespace tessera::checkpoint
