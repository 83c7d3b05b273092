// The calls between steps: bring in weights, set the number of micro-batches of a step, switch between training and
// evaluation weights, wait for weights, and read and set the state from which a saved run continues. If ranks bring in
// different weights, the call throws and there are no weights.
#pragma once

#include <exception>

#include <tessera/engine/build/construction.hpp>
#include <tessera/engine/build/initialize.hpp>
#include <tessera/layout/options.hpp>

namespace tessera::engine {

/// A base class of Optimizer, which is Sharded. Control: its ControlState.
template <class Optimizer, class Control>
class BetweenSteps {
 public:
  /// Sets every weight that this rank holds to value(tensor, i). i: row-major index of the element in the tensor.
  /// `value` must depend only on its arguments, so that weights are the same at every stage and world size. It runs in
  /// the default floating-point environment, also for a few more elements, to compare the ranks. Optimizer state and
  /// step count do not change. Blocks until all ranks have called it. Throws UsageError in the middle of a step, and
  /// AgreementError on every rank if values differ.
  template <class Value>
  void initialize(Value value) {
    Optimizer& of = optimizer();
    require_outside("initialize");
    bring_in([&](index_t step) {
      of.weight_check_.require_same_function(step, value);
      of.weights_.bring_in();
      of.decision_.forget_weights();
      tessera::engine::initialize(of.sharding_, of.executor_, of.parameters_, of.state_, value);
      of.weight_check_.came_in("initialize()", step, of.parameters_);
    });
  }

  /// Uses what the caller wrote into its parameter buffer (stage 3: this rank's shard) as the weights: call finish(),
  /// write, call take_parameters(). Without this call, writes to the buffer may be lost. Sets master weights too;
  /// options say whether optimizer state and step count are reset. Blocks until all ranks have called it. Throws
  /// UsageError in the middle of a step or without finish() before, and AgreementError on every rank if weights differ.
  void take_parameters(const TakeOptions& options = {}) {
    Optimizer& of = optimizer();
    require_outside("take_parameters");
    of.weights_.require_own_weights();
    bring_in([&](index_t step) {
      of.weights_.bring_in();
      of.weight_check_.came_in("take_parameters()", step, of.parameters_, options.clear_state);
      of.decision_.forget_weights();
      of.state_.start_from(of.parameters_.array());
      if (!options.clear_state) return;
      of.state_.clear();
      of.decision_.forget_steps();
      of.first_rules_ = of.rules_;
    });
  }

  /// Sets the number of micro-batches of the next step over all ranks, instead of Options::micro_batches per rank: for
  /// the end of an epoch, or a batch size that grows. Call it before the step's first backward(), with the same number
  /// on every rank. The gradient is the mean over these micro-batches. Micro-batch j belongs to rank j % N, pass j / N;
  /// every rank makes every pass, and has_micro_batch() tells whether it has one there. Throws UsageError in the middle
  /// of a step, and OptionError unless the number is in 1 .. N * Options::micro_batches, for which memory is planned.
  void begin_step(index_t micro_batches) {
    Optimizer& of = optimizer();
    of.progress_.begin_step(micro_batches);
    of.reduce_.begin_step(micro_batches);
  }

  /// Whether this rank has a micro-batch in the open or next pass. If the world size does not divide the step's
  /// micro-batches, some ranks have none in the last pass. They make the same calls of gather, backward() and ready as
  /// the others, but compute nothing and do not call gradients(unit). They add nothing to the sum.
  bool has_micro_batch() const noexcept { return static_cast<const Optimizer&>(*this).progress_.has_micro_batch(); }

  /// Between steps: from here to end_evaluation(), gather returns the weights to evaluate or to save. For most rules
  /// these are the training weights. ScheduleFreeAdamW trains other weights, which end_evaluation() restores bit for
  /// bit. All ranks make this call; a second call has no effect. Throws UsageError in the middle of a step, CommError,
  /// and, from begin_evaluation(), OptionError as step() does.
  void begin_evaluation() {
    check_rules(optimizer().rules_, optimizer().first_rules_);
    set_evaluation("begin_evaluation", true);
  }
  void end_evaluation() { set_evaluation("end_evaluation", false); }

  /// Calls visit(slice), a const TensorSlice, for everything that this rank holds of the arrays that persist between
  /// steps: "parameter", "master", those of the rules' state_names, and "trained" during evaluation. On an asynchronous
  /// executor the elements are in device memory, complete for work enqueued on its stream after this call. Blocks as
  /// finish() does at stages 0 to 2. Throws UsageError in the middle of a step or before the first weights.
  template <class Visit>
  void for_each_held_slice(Visit visit) {
    require_weights_between_steps("for_each_held_slice");
    optimizer().guarded([&] { optimizer().parameters_.before_read(); });
    walk<false>(false, visit);
  }
  /// The same for the elements that this rank owns. Exactly one rank owns each element. Never blocks.
  template <class Visit>
  void for_each_owned_slice(Visit visit) {
    require_weights_between_steps("for_each_owned_slice");
    walk<false>(true, visit);
  }

  /// Calls load(slice) for every slice of for_each_held_slice(), to set its elements. Afterwards the rank has weights.
  /// Call set_control_state() before, because it determines whether there is a "trained" array. If `load` throws, this
  /// rethrows the exception, other ranks throw PeerError, and there are no weights. Blocks until all ranks have called
  /// it. Throws UsageError in the middle of a step, and AgreementError on every rank if ranks load different values.
  template <class Load>
  void load_slices(Load load) {
    Optimizer& of = optimizer();
    of.progress_.require_between_steps("load_slices");
    bring_in([&](index_t step) {
      of.weights_.bring_in();
      of.decision_.forget_weights();
      std::exception_ptr problem;
      try {
        walk<true>(false, load);
      } catch (...) {
        problem = std::current_exception();
      }
      of.weight_check_.loaded(problem != nullptr, step, of.parameters_, of.state_, of.evaluation_.open());
      if (!problem) return;
      of.drop_step();  // as the other ranks do
      std::rethrow_exception(problem);
    });
  }

  /// Everything that determines the next step, except the arrays and the number of begin_step(). Blocks on an
  /// asynchronous executor. Throws UsageError in the middle of a step, and AgreementError if ranks differed in the last
  /// step.
  Control control_state() {
    Optimizer& of = optimizer();
    of.progress_.require_between_steps("control_state");
    Control state;
    of.decision_.read(state);
    of.guarded([&] { of.decision_.raise_difference(of.progress_.steps() - 1); });
    state.attempts = of.progress_.steps();
    state.evaluation_changes = of.evaluation_.changes();
    state.seed = of.options_.seed;
    state.clip_norm = of.options_.clip_norm;
    state.rules = of.rules_;
    state.first_rules = of.first_rules_;
    return state;
  }

  /// Continues from `state`, with its hyperparameters. If it begins or ends an evaluation, and the rule evaluates other
  /// weights than it trains, there are no weights until load_slices(). Blocks until all ranks have called it. Throws
  /// UsageError in the middle of a step, AgreementError on every rank if states differ, and OptionError if this
  /// optimizer cannot continue from `state`. After an error nothing has changed.
  void set_control_state(const Control& state) {
    Optimizer& of = optimizer();
    of.progress_.require_between_steps("set_control_state");
    of.guarded([&] {
      of.parameters_.post_all();  // may throw on this rank only, so it precedes collectives
      of.decision_.require_same(state, of.reductions_);
      of.decision_.raise_difference(of.progress_.steps() - 1);
    });
    state.validate(of.options_, of.rules_, of.decision_.scales_loss());
    check_rules(state.rules, state.first_rules);
    if (Optimizer::State::has_evaluation_weights && state.evaluating() != of.evaluation_.open()) of.weights_.bring_in();
    of.decision_.set(state);
    of.progress_.set_steps(state.attempts);
    of.evaluation_.set_changes(state.evaluation_changes);
    of.options_.seed = state.seed;
    of.options_.clip_norm = state.clip_norm;
    of.state_.set_seed(state.seed);
    of.rules_ = state.rules;
    of.first_rules_ = state.first_rules;
    of.weight_check_.note(state.attempts, of.parameters_);
  }

  /// Waits until the last step's weights arrived from all ranks. The caller's parameter buffer then holds the model
  /// (stages 0 to 2), and no collective of this optimizer is in flight. Blocks; on an asynchronous executor, work that
  /// is enqueued later waits instead. The report says whether an update of this rank made a parameter infinite or NaN.
  /// Throws CommError.
  auto finish() {
    Optimizer& of = optimizer();
    return of.guarded([&] {
      of.parameters_.finish();
      of.weights_.finished();
      return typename Optimizer::FinishReport(of.decision_.first_non_finite_weight(), of.layout());
    });
  }

 private:
  Optimizer& optimizer() noexcept { return static_cast<Optimizer&>(*this); }

  void require_outside(const char* call) {
    optimizer().progress_.require_between_steps(call);
    if (optimizer().evaluation_.open())
      throw UsageError(message({call, "() during evaluation: call end_evaluation() first"}));
  }

  void require_weights_between_steps(const char* call) {
    optimizer().progress_.require_between_steps(call);
    optimizer().weights_.require_weights(call);
  }

  template <bool to_write, class Visit>
  void walk(bool owned_only, Visit& visit) {
    Optimizer& of = optimizer();
    of.parameters_.template for_each_slice<to_write>(owned_only, visit);
    of.state_.template for_each_slice<to_write>(of.evaluation_.open(), owned_only, visit);
  }

  template <class Work>
  void bring_in(Work work) {
    Optimizer& of = optimizer();
    of.guarded([&] {
      of.parameters_.before_update();
      work(of.progress_.steps());
    });
    of.weights_.came_in();
  }

  void set_evaluation(const char* call, bool evaluation) {
    Optimizer& of = optimizer();
    of.weights_.require_weights(call);
    of.progress_.require_between_steps(call);
    of.guarded([&] {
      if (Optimizer::State::has_evaluation_weights && evaluation != of.evaluation_.open()) {
        of.parameters_.post_all();  // may throw, so it precedes all changes
        of.weights_.change();
        of.weight_check_.forget();
      }
      of.evaluation_.set(evaluation, of.sharding_, of.rules_, of.state_, of.parameters_, of.progress_.steps());
    });
  }
};

}  // namespace tessera::engine
