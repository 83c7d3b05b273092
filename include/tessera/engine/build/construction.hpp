// Constructs an optimizer on all ranks or on none, so that no rank waits for one that failed:
//
//     begin    checks this rank, and compares the ranks              one exchange, before anything is allocated
//     make     constructs the parts and allocates their memory
//     end      checks that all ranks have all parts                  one exchange
#pragma once

#include <time.h>
#include <unistd.h>

#include <exception>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/build/agreement.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/engine/step/settings.hpp>
#include <tessera/exec/rounding.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/rules.hpp>

namespace tessera::engine {

/// Throws OptionError if a hyperparameter is out of range, or if one on which the state depends differs from `first`,
/// the rules of the construction.
template <class Groups>
void check_rules(const Groups& rules, const Groups& first) {
  rule::for_each_type(rules, [&]<class Rule>(auto r, const std::vector<Rule>& groups) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      groups[g].validate();
      if constexpr (ChecksChange<Rule>) groups[g].validate_change(rule::of<r>(first)[g]);
    }
  });
}

/// Throws OptionError unless there is one value of the rule with index `r` per hyperparameter group of that rule.
template <class Rule>
void check_groups(const Layout& layout, int r, const std::vector<Rule>& groups) {
  const int given = static_cast<int>(groups.size());
  if (given == 0) throw OptionError("no rules were given: an optimizer needs one per hyperparameter group");
  for (const Tensor t : layout.tensors())
    if (layout.rule(t) == r && layout.group(t) >= given)
      throw OptionError(message({"tensor '", layout.name(t), "' is of hyperparameter group ", layout.group(t), ", but ",
                                 given, " rules were given"}));
  if (given > layout.groups(r))
    throw OptionError(message({given, " rules were given, but no tensor is of hyperparameter group ", given - 1,
                               ": give one rule per group, the layout has ", layout.groups(r)}));
}

/// Throws OptionError or LayoutError if no rank can be constructed from the arguments.
template <class Rule, class Stage>
void check_model(const Layout& layout, const typename rule::Set<Rule>::Groups& rules, const Options& options) {
  options.validate();
  rule::for_each_type(rules, []<class Type>(auto, const std::vector<Type>& groups) {
    exec::require_each_operation_rounded(exec::rounds_each_operation<Type>(exec::Isa::baseline) &&
                                         exec::rounds_each_operation<Type>(exec::best_isa()));
    for (const Type& rule : groups) rule.validate();
  });
  constexpr int types = rule::Set<Rule>::count;
  for (const Tensor t : layout.tensors())
    if (layout.rule(t) >= types)
      throw OptionError(message({"tensor '", layout.name(t), "' has rule ", layout.rule(t), ", but the optimizer has ",
                                 types == 1 ? "one rule, " : "rules 0 to ", types == 1 ? "" : message({types - 1, ": "}),
                                 rule::name<Rule>()}));
  rule::for_each_type(rules, [&](auto r, const auto& groups) { check_groups(layout, r, groups); });
  if (layout.is_flat() && rule::needs_tensor_norms<Rule>)
    throw LayoutError(message({rule::name<Rule>(), " takes norms of tensors: a flat layout has none, name them"}));
  if (layout.is_flat() && Stage::shards_gradients)
    throw LayoutError(
        message({"a flat layout keeps its gradients in the caller's buffer: stages 0 and 1, not ", Stage::name}));
}

template <class Rule, class Stage, class Precision>
Blueprint describe(const Layout& layout, const typename rule::Set<Rule>::Groups& rules, const Options& options) {
  Blueprint blueprint;
  blueprint.set(0, "version", message({version}), static_cast<std::uint64_t>(version));
  std::string groups;
  std::uint64_t state = 0;
  rule::for_each_type(rules, [&]<class Type>(auto r, const std::vector<Type>& of_rule) {
    groups += message({r == 0 ? "" : " and ", of_rule.size()});
    state = state << 8 | state_floats<Type>;
  });
  blueprint.set(1, "rule", rule::name<Rule>(), state);
  blueprint.set(2, "stage", Stage::name, 0);
  blueprint.set(3, "precision", Precision::name, sizeof(typename Precision::Parameter));
  blueprint.set(
      4, "layout",
      message({layout.parameters(), " parameters in ", layout.units(), " units (digest ", layout.digest(), ")"}),
      layout.digest());
  blueprint.set(5, "hyperparameter groups", groups, 0);
  blueprint.set(6, "buffers handed in", "none", 0);
  blueprint.set(7, "the weights they begin with", "none", 0);
  blueprint.settings = digest_of(options, rules);
  return blueprint;
}

/// A number that identifies this process: no other process has it.
inline std::uint64_t process_number() {
  static const std::uint64_t drawn = [] {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return core::Digest{}.add(now.tv_sec).add(now.tv_nsec).add(std::int64_t{getpid()}).value();
  }();
  return drawn;
}

/// Throws BufferError if the caller's buffers cannot be used. Else writes their addresses to `blueprint` and, if all
/// ranks must start with the same whole parameters, a digest of these.
template <class Stage, class Executor, class Parameter, class Gradient>
void check_buffers(const Layout& layout, const Plan& plan, Executor& executor, std::span<Parameter> parameters,
                   std::span<Gradient> gradients, Blueprint& blueprint) {
  check_buffer(parameters, plan.parameters);
  check_buffer(gradients, plan.gradients);
  check_apart(parameters, gradients);
  executor.check_reachable(plan.parameters.name, parameters.data(),
                           std::ssize(parameters) * plan.parameters.element_bytes);
  executor.check_reachable(plan.gradients.name, gradients.data(), std::ssize(gradients) * plan.gradients.element_bytes);
  if (layout.is_flat() && plan.gradients.elements > 0 && !gradients.data())
    throw BufferError("a flat layout's gradients are written by the caller: hand in the buffer, {.gradients = g}");
  const auto memory = [](auto buffer) -> Blueprint::Memory {
    const auto begin = reinterpret_cast<std::uintptr_t>(buffer.data());
    return {process_number(), begin, begin + buffer.size_bytes()};
  };
  blueprint.memory = {memory(parameters), memory(gradients)};
  if (parameters.data() || gradients.data())
    blueprint.set(6, "buffers handed in",
                  !gradients.data()    ? "parameters"
                  : !parameters.data() ? "gradients"
                                       : "parameters and gradients",
                  0);
  if (Stage::shards_parameters || !parameters.data()) return;
  core::Digest digest;
  for (const Unit u : layout.forward())
    for (const Tensor t : layout.tensors(u)) {
      const std::span<const Parameter> tensor(parameters.data() + layout.offset(t), to_size(layout.elements(t)));
      digest.add(static_cast<std::int64_t>(executor.digest(tensor)));
    }
  blueprint.set(7, "the weights they begin with", message({"parameters of its own (digest ", digest.value(), ")"}),
                digest.value());
}

/// The construction on one rank. Allocates the memory of the exchanges first, so that a rank that runs out of memory
/// can report it.
template <class Executor, class Queue>
class Construction {
 public:
  Construction(Executor& executor, Queue& queue, int rank, int world)
      : executor_(&executor),
        queue_(&queue),
        rank_(rank),
        world_(world),
        words_(Executor(executor).template allocate<std::uint64_t>(words * world)) {}  // not in the optimizer's count

  /// Runs `check(blueprint)` and sends its error to all ranks. A rank whose check throws rethrows its own error. Other
  /// ranks throw PeerError if a rank failed, or AgreementError if blueprints or settings differ. Blocks until all ranks
  /// have called it.
  template <class Groups, class Check>
  void begin(Blueprint blueprint, const Options& options, const Groups& rules, Check check) {
    std::exception_ptr problem;
    try {
      check(blueprint);
    } catch (const Error& error) {
      problem = std::current_exception();
      blueprint.refuse(error.what());
    }
    try {
      const core::List<Blueprint> ranks = meet(blueprint);
      if (!problem && !settings_agree(ranks))
        throw AgreementError(message({"ranks differ in ",
                                      exchange_settings(options, rules, *executor_, *queue_, rank_, world_),
                                      ": build the optimizer alike on every rank"}));
    } catch (const AgreementError&) {
      if (!problem) throw;
    }
    if (problem) std::rethrow_exception(problem);
  }

  /// Constructs a part of the optimizer. If that throws, sends the error to the other ranks, where end() throws; only
  /// then it blocks.
  template <class Part, class... Arguments>
  Part make(Arguments&&... arguments) {
    try {
      return Part(std::forward<Arguments>(arguments)...);
    } catch (const std::exception& error) {
      refuse(error.what());
      throw;
    }
  }

  /// Throws PeerError, which names the first rank that could not make a part. Blocks until all ranks have called it.
  void end() {
    meet(Blueprint{});
    words_ = {};
  }

 private:
  static constexpr index_t words = sizeof(Blueprint) / sizeof(std::uint64_t);
  static_assert(sizeof(Blueprint) % sizeof(std::uint64_t) == 0);

  void refuse(const char* why) noexcept {
    try {
      Blueprint mine;
      mine.refuse(why);
      meet(mine);
    } catch (...) {  // the first error is the one to report
    }
  }

  core::List<Blueprint> meet(const Blueprint& mine) {
    const std::span<std::uint64_t> all = words_.span();
    const std::span<std::uint64_t> own = all.subspan(to_size(rank_) * words, words);
    core::List<Blueprint> ranks(to_size(world_));
    ranks[to_size(rank_)] = mine;
    executor_->upload(own, reinterpret_cast<const std::uint64_t*>(&ranks[to_size(rank_)]));
    const auto arrived = queue_->post(
        AllGather(std::span<const std::uint64_t>(own), all, words, Tag{"blueprint", 0, 0}), executor_->record());
    executor_->wait(arrived);
    executor_->download(std::span<const std::uint64_t>(all), reinterpret_cast<std::uint64_t*>(ranks.data()));
    if constexpr (!Executor::synchronous) arrived.wait();  // throws if the collective failed: the words are undefined
    for (int r = 0; r < world_; ++r)
      if (ranks[to_size(r)].problem[0] != 0 && r != rank_)
        throw PeerError(message({"rank ", r, " could not be built: ", ranks[to_size(r)].problem.data()}));
    compare(ranks);
    return ranks;
  }

  Executor* executor_;
  Queue* queue_;
  int rank_;
  int world_;
  typename Executor::template Buffer<std::uint64_t> words_;
};

}  // namespace tessera::engine
