// Selects types by the names on the command line: the stage and the precision are template arguments.
#pragma once

#include <string>
#include <vector>

#include <tessera/precision/precision.hpp>
#include <tessera/stage/stage.hpp>

#include "common/options.hpp"

namespace example {

template <class Precision, class Call>
auto with_stage(int stage, Call& call) {
  switch (stage) {
    case 0: return call.template operator()<tessera::Stage0, Precision>();
    case 1: return call.template operator()<tessera::Stage1, Precision>();
    case 2: return call.template operator()<tessera::Stage2, Precision>();
    default: return call.template operator()<tessera::Stage3, Precision>();
  }
}

/// The name of a precision for --precision: "bf16-remainder" is Bf16Remainder.
template <class Precision>
std::string option_name() {
  std::string name;
  for (const char c : std::string(Precision::name)) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && !name.empty()) name += '-';
    name += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return name;
}

/// Calls call.operator()<Stage, Precision>() with the policies of the options. The precision must be one of these.
template <class First, class... Others, class Call>
auto with_policies(const Options& options, Call call) {
  if constexpr (sizeof...(Others) > 0)
    if (options.precision != option_name<First>()) return with_policies<Others...>(options, call);
  return with_stage<First>(options.stage, call);
}

}  // namespace example
