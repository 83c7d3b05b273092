// From the names on the command line to types: the stage and the precision are template arguments.
#pragma once

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

/// call.operator()<Stage, Precision>() with the policies that the options name.
template <class Call>
auto with_policies(const Options& options, Call call) {
  if (options.precision == "bf16") return with_stage<tessera::Bf16>(options.stage, call);
  if (options.precision == "bf16-remainder") return with_stage<tessera::Bf16Remainder>(options.stage, call);
  if (options.precision == "bf16-stochastic") return with_stage<tessera::Bf16Stochastic>(options.stage, call);
  if (options.precision == "fp16") return with_stage<tessera::Fp16>(options.stage, call);
  return with_stage<tessera::Fp32>(options.stage, call);
}

}  // namespace example
