// Checks that ranks have the same weights: when weights are brought in, and every Options::check_weights steps. Without
// that option a step has no check. What is compared:
//
//     construction          the digest of whole parameters of the caller           (engine/build/construction.hpp)
//     initialize            the function at a few elements of each tensor; then as take_parameters
//     take_parameters       arrays that several ranks hold: parameters at stages 0 to 2, and over peers if they are
//                           sharded over groups
//     load_slices           the same, and master weights and state
//     start of every        the same; also checks that no parameter buffer was written without take_parameters() since
//     k-th step             the step before
#pragma once

#include <cstdint>
#include <span>

#include <tessera/core/digest.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/groups.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/step/exchange.hpp>
#include <tessera/exec/float_environment.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

template <class Stage, class Comm>
class WeightCheck {
 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;

  /// room: [>= world] words, between steps. every: Options::check_weights.
  WeightCheck(const Layout& layout, Executor& executor, Queue& queue, std::span<std::uint64_t> room, int rank,
              core::Groups groups, int every)
      : layout_(&layout),
        executor_(&executor),
        exchange_(executor, queue, room, rank, groups.world),
        group_size_(groups.size),
        every_(every) {}

  /// Called at the end of the construction. handed_in: the caller passed parameters. If peers hold the same parameters,
  /// throws as came_in() does.
  template <class Parameters>
  void begin(bool handed_in, Parameters& parameters) {
    if (Stage::has_groups && handed_in)
      compare_parameters({"Sharded()", "parameters", "hand in the same weights on every rank", 0}, parameters);
    note(0, parameters);
  }

  /// Throws AgreementError on every rank if value(tensor, i) differs between ranks. Blocks.
  template <class Value>
  void require_same_function(index_t step, Value& value) {
    const index_t samples = max(least_samples, 64 / max(index_t{1}, index_t{layout_->tensors().size()}));
    compare({"initialize()", "first weights", "the value must be a function of tensor and element alone", step},
            [&](Tensor t) {
              const exec::DefaultFloatEnvironment ieee;
              const index_t last = layout_->elements(t) - 1;
              core::Digest digest;
              for (index_t k = 0; last >= 0 && k < samples; ++k) {
                const auto weight = static_cast<float>(value(t, last * k / (samples - 1)));
                digest.add(index_t{bits_as<std::uint32_t>(weight)});
              }
              return digest.value();
            });
  }

  /// Called after `call` brought in weights. Throws AgreementError on every rank if ranks that hold the same elements
  /// have different values, or if clear_state differs. Blocks.
  template <class Parameters>
  void came_in(const char* call, index_t step, Parameters& parameters, bool clear_state = false) {
    const auto& clear = exchange_.all(clear_state, Tag{"clear_state", 0, step});
    if (const int other = exchange_.differs(clear))
      throw AgreementError(message({call, ": clear_state is ", clear[0] ? "true" : "false", " on rank 0 and ",
                                    clear[0] ? "false" : "true", " on rank ", other, ": call it alike"}));
    compare_parameters({call, "parameters", "bring in the same weights on every rank", step}, parameters);
    note(step, parameters);
  }

  /// Called after this rank loaded its slices, or failed to. Throws PeerError if another rank failed, and
  /// AgreementError on every rank if ranks loaded different weights or state. Blocks.
  template <class Parameters, class State>
  void loaded(bool failed, index_t step, Parameters& parameters, State& state, bool evaluating) {
    const auto& failures = exchange_.all(failed, Tag{"slices loaded", 0, step});
    for (std::size_t r = 0; r < failures.size(); ++r)
      if (failures[r] && !failed)
        throw PeerError(message({"load_slices(): rank ", r, " failed, which says why; no rank has weights now"}));
    if (failed) return;
    constexpr const char* when = "load_slices()";
    constexpr const char* remedy = "load the same on every rank";
    compare_parameters({when, "parameters", remedy, step}, parameters);
    compare_state({when, "master weights or optimizer state", remedy, step}, state, evaluating);
    note(step, parameters);
  }

  /// Called before the first pass of `step`. If the step has a check, blocks and throws on every rank: AgreementError
  /// if weights differ, UsageError if the parameters of a rank were written since the step before.
  template <class Parameters, class State>
  void check(index_t step, Parameters& parameters, State& state) {
    if (!due(step)) return;
    parameters.post_all();
    require_untouched(step, parameters);
    constexpr const char* when = "Options::check_weights";
    constexpr const char* remedy = "beginning the step again does not help, initialize() or take_parameters() does";
    compare_parameters({when, "parameters", remedy, step}, parameters);
    compare_state({when, "master weights or optimizer state", remedy, step}, state, false);
  }

  /// Records the parameters as the correct ones before `step`. Blocks if that step has a check.
  template <class Parameters>
  void note(index_t step, Parameters& parameters) {
    left_is_known_ = due(step);
    if (left_is_known_) left_ = held(parameters);
  }

  /// Called before the parameters change.
  void forget() noexcept { left_is_known_ = false; }

 private:
  static constexpr index_t least_samples = 3;

  struct Question {
    const char* when;
    const char* what;
    const char* remedy;
    index_t step;
  };

  bool due(index_t step) const noexcept { return every_ > 0 && step % every_ == 0; }

  template <class T>
  std::uint64_t digest(std::span<const T> values) {
    return executor_->digest(values);
  }

  template <class Parameters>
  std::uint64_t held(Parameters& parameters) {
    if constexpr (Stage::shards_parameters) {
      parameters.before_read();
      return digest(parameters.shard());
    } else {
      core::Digest all;
      for (const Tensor t : layout_->tensors()) all.add(static_cast<std::int64_t>(digest(parameters.tensor(t))));
      return all.value();
    }
  }

  template <class Parameters>
  void require_untouched(index_t step, Parameters& parameters) {
    const auto& written = exchange_.all(left_is_known_ && held(parameters) != left_, Tag{"parameters written", 0, step});
    for (std::size_t r = 0; r < written.size(); ++r)
      if (written[r])
        throw UsageError(message({"the parameter buffer of rank ", r, " was written since its weights came in or were "
                                  "updated, and nothing took them: call finish(), write, call take_parameters()"}));
  }

  template <class Parameters>
  void compare_parameters(const Question& ask, Parameters& parameters) {
    if constexpr (Stage::parameters.extent == Extent::replicated)
      compare(ask, [&](Tensor t) { return digest(parameters.tensor(t)); });
    else if constexpr (Stage::parameters.extent == Extent::group)
      compare_peers(ask, [&](auto& visit) { parameters.template for_each_slice<false>(false, visit); });
  }

  template <class State>
  void compare_state(const Question& ask, State& state, bool evaluating) {
    if constexpr (Stage::state.extent == Extent::replicated)
      compare(ask, [&](Tensor t) { return state.digest(t, evaluating); });
    else if constexpr (Stage::state.extent == Extent::group)
      compare_peers(ask, [&](auto& visit) { state.template for_each_slice<false>(evaluating, false, visit); });
  }

  // walk(visit): visits all slices of which peers hold the same elements.
  template <class Walk>
  void compare_peers(const Question& ask, const Walk& walk) {
    core::Digest mine;
    const auto visit = [&](const auto& slice) { mine.add(static_cast<std::int64_t>(digest(slice.elements))); };
    walk(visit);
    const core::List<std::uint64_t>& ranks = exchange_.all(mine.value(), Tag{ask.what, 0, ask.step});
    for (std::size_t r = to_size(group_size_); r < ranks.size(); ++r)
      if (const std::size_t first = r % to_size(group_size_); ranks[r] != ranks[first])
        throw AgreementError(message({ask.when, ": ranks ", first, " and ", r, " hold the same part of the ", ask.what,
                                      " and differ in it: rank ", first, " has digest ", ranks[first], ", rank ", r,
                                      " has ", ranks[r], ": ", ask.remedy}));
  }

  // Compares all tensors at once. Only if they differ, finds the first different one by bisection.
  template <class DigestOf>
  void compare(const Question& ask, const DigestOf& digest_of) {
    const auto all = [&](int begin, int end) -> const core::List<std::uint64_t>& {
      core::Digest digest;
      for (int t = begin; t < end; ++t) digest.add(static_cast<std::int64_t>(digest_of(Tensor{t})));
      return exchange_.all(digest.value(), Tag{ask.what, begin, ask.step});
    };
    int begin = 0, end = layout_->tensors().size();
    if (!exchange_.differs(all(begin, end))) return;
    while (end - begin > 1) {
      const int middle = begin + (end - begin) / 2;
      (exchange_.differs(all(begin, middle)) ? end : begin) = middle;
    }
    const core::List<std::uint64_t>& ranks = all(begin, end);
    const int other = exchange_.differs(ranks);
    throw AgreementError(message({ask.when, ": ranks differ in the ", ask.what, " of '", layout_->name(Tensor{begin}),
                                  "': rank 0 has digest ", ranks[0], ", rank ", other, " has ", ranks[to_size(other)],
                                  ": ", ask.remedy}));
  }

  const Layout* layout_;
  Executor* executor_;
  Exchange<Executor, Queue> exchange_;
  int group_size_;
  int every_;
  std::uint64_t left_ = 0;
  bool left_is_known_ = false;
};

}  // namespace tessera::engine
