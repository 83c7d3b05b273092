// Training with ranks that are threads on the host.
#pragma once

#include <optional>
#include <utility>

#include <tessera/tessera.hpp>

#include "common/policies.hpp"
#include "common/report.hpp"
#include "transformer/train.hpp"
#include "transformer/work.hpp"

namespace transformer {

template <class Rule>
Outcome train_on_host(const Options& options, const Text& text) {
  using tessera::Bf16, tessera::Bf16Remainder, tessera::Bf16Stochastic, tessera::Fp16, tessera::Fp32;
  using Comm = tessera::Recording<tessera::Local>;
  std::optional<tessera::Timeline> timeline;
  if (!options.timeline.empty()) timeline.emplace();
  const auto run = [&]<class Stage, class Precision>() {
    require_fit<Rule, Precision, Comm>(options);
    Outcome outcome;
    tessera::run_ranks(options.ranks, [&](tessera::Local& local) {
      Comm comm(local);
      auto mine = train<Machine<Windows, Work<float>>, Rule, Stage, Precision>(comm, options, text,
                                                                               timeline ? &*timeline : nullptr);
      if (comm.rank() == 0) outcome = std::move(mine);
    });
    return outcome;
  };
  Outcome outcome = example::with_policies<Fp32, Bf16, Bf16Remainder, Bf16Stochastic, Fp16>(options, run);
  if (timeline) example::write_timeline(*timeline, options.timeline);
  return outcome;
}

// Each in a file of its own, compiled in parallel.
Outcome train_sgd(const Options& options, const Text& text);
Outcome train_adam(const Options& options, const Text& text);
Outcome train_adamw(const Options& options, const Text& text);

}  // namespace transformer
