// Training with ranks that are threads on the host.
#pragma once

#include <optional>
#include <utility>

#include <tessera/tessera.hpp>

#include "common/policies.hpp"
#include "common/report.hpp"
#include "mlp/train.hpp"
#include "mlp/work.hpp"

namespace mlp {

template <class Rule>
example::Result train_on_host(const example::Options& options, const Split& digits) {
  using tessera::Bf16, tessera::Bf16Remainder, tessera::Bf16Stochastic, tessera::Fp16, tessera::Fp32;
  std::optional<tessera::Timeline> timeline;
  if (!options.timeline.empty()) timeline.emplace();
  const auto run = [&]<class Stage, class Precision>() {
    example::Result result;
    tessera::run_ranks(options.ranks, [&](tessera::Local& local) {
      tessera::Recording<tessera::Local> comm(local);
      auto mine =
          train<Machine<Samples, Work>, Rule, Stage, Precision>(comm, options, digits, timeline ? &*timeline : nullptr);
      if (comm.rank() == 0) result = std::move(mine);
    });
    return result;
  };
  example::Result result = example::with_policies<Fp32, Bf16, Bf16Remainder, Bf16Stochastic, Fp16>(options, run);
  if (timeline) example::write_timeline(*timeline, options.timeline);
  return result;
}

// Each in a file of its own, compiled in parallel.
example::Result train_sgd(const example::Options& options, const Split& digits);
example::Result train_adam(const example::Options& options, const Split& digits);
example::Result train_adamw(const example::Options& options, const Split& digits);

}  // namespace mlp
