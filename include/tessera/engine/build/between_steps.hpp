// The calls between steps: they bring weights in from outside, say how many micro-batches a step has, trade weights for
// evaluation, wait until they are there, and read and set all that a run goes on from.
// Where ranks' weights differ, none have come in.
#pragma once

#include <exception>

#include <tessera/engine/build/construction.hpp>
#include <tessera/engine/build/initialize.hpp>
#include <tessera/layout/options.hpp>

namespace tessera::engine {

/// A base of Optimizer: Sharded. Control: its ControlState.
template <class Optimizer, class Control>
class BetweenSteps {
 public:
  /// Sets every weight that this rank holds to value(tensor, i), i counting the tensor's elements row-major. `value` is
  /// a function of its arguments alone, so that the weights are the same at every stage and world size, and is called
  /// in the default floating-point environment; a few more values are asked for, by which ranks are compared. Optimizer
  /// state and step count stay. Blocks until all ranks have come. Throws UsageError in the middle of a step, and
  /// AgreementError on every rank where ranks' values differ.
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

  /// Takes what the caller wrote into its own parameter buffer (stage 3: this rank's shard) for the weights: finish(),
  /// write, take_parameters(). What is written there without it counts for nothing. Master weights follow; optimizer
  /// state and step count stay unless they are to be cleared. Blocks until all ranks have come. Throws UsageError in
  /// the middle of a step or without finish() before, and AgreementError on every rank where ranks' weights differ.
  void take_parameters(const TakeOptions& options = {}) {
    Optimizer& of = optimizer();
    require_outside("take_parameters");
    of.weights_.require_own_weights();
    bring_in([&](index_t step) {
      of.weights_.bring_in();
      of.weight_check_.came_in("take_parameters()", step, of.parameters_, options.clear_state);
      of.decision_.forget_weights();
      of.state_.start_from(of.parameters_.trainable());
      if (!options.clear_state) return;
      of.state_.clear();
      of.decision_.forget_steps();
      of.first_rules_ = of.rules_;
    });
  }

  /// Says, before the first backward() of a step, that this step has `micro_batches` over all ranks, instead of
  /// Options::micro_batches on each: fewer at the end of an epoch, or while a batch grows. The gradients' mean is over
  /// them. Micro-batch j is that of rank j % N in pass j / N: every rank makes every pass, and has_micro_batch() says
  /// whether it has one. The same on every rank. Throws UsageError in the middle of a step, and OptionError unless it
  /// is from 1 to N times Options::micro_batches, which memory is planned for.
  void begin_step(index_t micro_batches) {
    Optimizer& of = optimizer();
    of.progress_.begin_step(micro_batches);
    of.reduce_.begin_step(micro_batches);
  }

  /// Whether this rank has a micro-batch in the pass that is open or comes next. A rank that has none, in the last pass
  /// of a step whose micro-batches the ranks do not divide, calls gather, backward and ready as the others do, without
  /// forward, backward and gradients(unit). It adds nothing to the sum.
  bool has_micro_batch() const noexcept { return static_cast<const Optimizer&>(*this).progress_.has_micro_batch(); }

  /// Between steps: what gather brings from here to end_evaluation() are the weights to evaluate or to save. For most
  /// rules these are the trained ones; ScheduleFreeAdamW trains others, which end_evaluation() brings back to the bit.
  /// The same on every rank; twice is once. Throws UsageError in the middle of a step, CommError, and to begin with
  /// OptionError as step() does.
  void begin_evaluation() {
    check_rules(optimizer().rules_, optimizer().first_rules_);
    set_evaluation("begin_evaluation", true);
  }
  void end_evaluation() { set_evaluation("end_evaluation", false); }

  /// Calls visit(slice), a TensorSlice, for all that this rank holds of what lasts from step to step: the array's name
  /// ("parameter", "master", those of Rule::state_names, during evaluation "trained"), the tensor, and its elements, to
  /// be read. On an asynchronous executor they lie in device memory, complete for work given to its stream from now on.
  /// Blocks as finish() does at stages 0 to 2. Throws UsageError in the middle of a step or before the first weights.
  template <class Visit>
  void for_each_held_slice(Visit visit) {
    require_weights_between_steps("for_each_held_slice");
    optimizer().guarded([&] { optimizer().parameters_.before_read(); });
    walk<false>(false, visit);
  }
  /// The same for what this rank owns: of all ranks, exactly one has each element. Never blocks.
  template <class Visit>
  void for_each_owned_slice(Visit visit) {
    require_weights_between_steps("for_each_owned_slice");
    walk<false>(true, visit);
  }

  /// Calls load(slice) for every slice that for_each_held_slice() has, to set its elements; then the weights have come
  /// in. Call set_control_state() before: it says whether there is a "trained" array. What `load` throws is thrown here,
  /// and PeerError on the other ranks; then there are no weights. Blocks until all ranks have come. Throws UsageError in
  /// the middle of a step, and AgreementError on every rank where ranks load what differs.
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
      of.drop_step();  // as the others do
      std::rethrow_exception(problem);
    });
  }

  /// All that decides the next step beside the arrays and what begin_step() says. Blocks on an asynchronous executor.
  /// Throws UsageError in the middle of a step, and AgreementError where ranks differed in the last one.
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

  /// Goes on from `state`, hyperparameters included. If it begins or ends an evaluation of a rule that evaluates other
  /// weights than it trains, there are no weights until load_slices(). Blocks until all ranks have come. Throws UsageError
  /// in the middle of a step, AgreementError on every rank where ranks' states differ, and OptionError for what this
  /// optimizer cannot go on from; then nothing has changed.
  void set_control_state(const Control& state) {
    Optimizer& of = optimizer();
    of.progress_.require_between_steps("set_control_state");
    of.guarded([&] {
      of.parameters_.post_all();  // may refuse: before what all ranks join
      of.decision_.require_same(state, of.reductions_);
      of.decision_.raise_difference(of.progress_.steps() - 1);
    });
    state.validate(of.options_, of.rules_.size(), of.decision_.scales_loss());
    check_rules(state.rules, state.first_rules);
    if (Optimizer::trades_weights && state.evaluating() != of.evaluation_.open()) of.weights_.bring_in();
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

  /// Waits until the last step's weights have come from all ranks: what the caller's own parameter buffer holds is then
  /// the model (stages 0 to 2). Blocks, or lets what is given to an asynchronous executor from now on wait. Afterwards
  /// no collective of this optimizer is in flight. The report says whether an update of this rank made a parameter
  /// infinite or NaN. Throws CommError.
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
      if (Optimizer::trades_weights && evaluation != of.evaluation_.open()) {
        of.parameters_.post_all();  // may refuse: before anything changes
        of.weights_.change();
        of.weight_check_.forget();
      }
      of.evaluation_.set(evaluation, of.sharding_, of.rules_, of.state_, of.parameters_, of.progress_.steps());
    });
  }
};

}  // namespace tessera::engine
