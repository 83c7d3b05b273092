// The sharded optimizer: calls the engine's parts in the order of a training step.
//
//     backward     gradients ... ready -> launch bucket (reduce-scatter, overlaps with backward of earlier units)
//     step         wait, fold -> norm -> agree -> fused update -> gather (overlaps with the next forward)
//
// A rank's program is the same at every stage. Stages differ in which of the engine's parts are used.
#pragma once

#include <exception>
#include <type_traits>
#include <utility>

#include <tessera/comm/local/local.hpp>
#include <tessera/engine/build/between_steps.hpp>
#include <tessera/engine/build/composition.hpp>
#include <tessera/engine/build/construction.hpp>
#include <tessera/engine/step/control_state.hpp>
#include <tessera/engine/step/evaluation.hpp>
#include <tessera/engine/step/gather_progress.hpp>
#include <tessera/engine/memory/optimizer_state.hpp>
#include <tessera/engine/step/pass.hpp>
#include <tessera/engine/memory/reduce.hpp>
#include <tessera/engine/step/report.hpp>
#include <tessera/engine/memory/sharded_parameters.hpp>
#include <tessera/engine/step/step_decision.hpp>
#include <tessera/engine/step/step_progress.hpp>
#include <tessera/engine/step/weight_check.hpp>
#include <tessera/engine/memory/whole_parameters.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera {

/// Optimizes the parameters of `layout`, sharded over the ranks of `comm` as Stage says. Each rank has one object and
/// uses it from one thread. All ranks construct it with equal arguments and make the same calls.
/// Source: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models".
/// Rule: an update rule, or Rules<...> of several.
template <class Rule, class Stage, class Precision = Fp32, class Comm = Local>
class Sharded : public engine::Composition<Rule, Stage, Precision, Comm>,
                public engine::BetweenSteps<Sharded<Rule, Stage, Precision, Comm>, ControlState<Rule>> {
  using Composition = tessera::engine::Composition<Rule, Stage, Precision, Comm>;

 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;
  using Groups = typename rule::Set<Rule>::Groups;
  using Parameter = typename Precision::Parameter;
  using Gradient = typename Precision::Gradient;
  using Pass = BackwardPass<Sharded>;
  using Report = StepReport<Executor>;
  using FinishReport = WeightsReport<Executor>;
  using Composition::plan;

  /// Memory of the caller, of at least required() elements. Buffers that are not passed are allocated.
  struct Buffers {
    CallersBuffer<Parameter> parameters{};
    CallersBuffer<Gradient> gradients{};
  };

  /// Constructs this rank's optimizer. Parameters in `buffers` are the initial weights. rules: one per hyperparameter
  /// group, a std::vector<Rule>, or Rules<...>. Blocks until all ranks have called it. An error on one rank throws on
  /// all: BufferError, OptionError, LayoutError, or AgreementError if the ranks' versions, policies, layouts, options or
  /// rules differ.
  Sharded(const Comm& comm, const Layout& layout, const Buffers& buffers, Groups rules,
          const Options& options = {})
      : comm_(comm),
        options_(options),
        rules_(std::move(rules)),
        first_rules_(rules_),
        reductions_(comm_.queue(options.usable_timeout())),
        gathers_(comm_.queue(options.usable_timeout())),
        executor_(comm_.executor()),
        construction_(executor_, reductions_, comm_.rank(), comm_.size()),
        sharding_(Composition::sharding_of(checked(layout, buffers), comm_.size(), options)),
        plan_(Composition::plan_of(sharding_, options)),
        parameters_(construction_.template make<Parameters>(sharding_, comm_.rank(), executor_, gathers_, plan_,
                                                            options, buffers.parameters)),
        reduce_(construction_.template make<Reduction>(sharding_, comm_.rank(), executor_, reductions_, plan_,
                                                       index_t{options.micro_batches} * comm_.size(), buffers.gradients,
                                                       options.check_gradients)),
        decision_(construction_.template make<Decision>(executor_, plan_, comm_.rank(), comm_.size(), layout.units(),
                                                        options, scales_loss<Precision>)),
        state_(construction_.template make<State>(sharding_, comm_.rank(), executor_, plan_, decision_, options.seed)),
        progress_(sharding_, comm_.rank(), options.micro_batches,
                  {options.timeline, comm_.rank(), sharding_.layout(), reductions_, gathers_}),
        weights_(sharding_.layout(), buffers.parameters.data() != nullptr),
        weight_check_(sharding_.layout(), executor_, reductions_, decision_.room(), comm_.rank(), sharding_.groups(),
                      options.check_weights),
        mine_(sharding_, comm_.rank()),
        caller_bytes_(buffers.parameters.data() ? plan_.parameters.bytes() : 0) {
    if (buffers.gradients.data()) caller_bytes_ += plan_.gradients.bytes();
    construction_.end();
    state_.start_from(parameters_.array());
    weight_check_.begin(buffers.parameters.data() != nullptr, parameters_);
  }

  Sharded(const Comm& comm, const Layout& layout, const Buffers& buffers, const Rule& rule, const Options& options = {})
    requires UpdateRule<Rule>
      : Sharded(comm, layout, buffers, Groups{rule}, options) {}

  Sharded(const Sharded&) = delete;
  Sharded& operator=(const Sharded&) = delete;

  /// Calls finish(), or, in an exception or if a rank failed, cancels collectives that other ranks have not joined.
  ~Sharded() {
    try {
      if (std::uncaught_exceptions() == exceptions_) this->finish();
    } catch (const Error&) {  // the ranks that failed report the error
    }
    communicator::detach(reductions_);  // before the buffers of posted calls are destroyed
    communicator::detach(gathers_);
  }

  /// The complete parameters of a unit. Blocks until they are gathered. Stage 3 also starts the next gathers. Throws
  /// UsageError if Weights that the caller still holds occupy their memory: release those and call again.
  Weights<Parameter> gather(Unit unit) { return gather_part(unit, unit); }

  /// The same for a range of the buffer of a flat layout.
  std::span<const Parameter> gather(index_t begin, index_t end) {
    progress_.require_range("gather", {begin, end});
    return gather_part(Unit{0}, Range{begin, end});
  }

  /// Starts the backward of one micro-batch. Throws UsageError if another is open or the step already has all passes.
  [[nodiscard]] Pass backward(const PassOptions& options = {}) {
    weights_.require_weights("backward");
    if (evaluation_.open()) throw UsageError("backward() during evaluation: call end_evaluation() first");
    progress_.require_new_pass(options);
    guarded([&] {
      decision_.raise_difference(progress_.steps() - 1);
      reduce_.begin_pass(progress_.passes(), options);  // may throw on this rank only, so it precedes collectives
      if (progress_.passes() == 0) weight_check_.check(progress_.steps(), parameters_, state_);
    });
    const index_t pass = progress_.begin_pass(options);
    parameters_.begin_backward();
    send_complete();  // a model without trainable elements is already complete
    return Pass(*this, pass);
  }

  /// Waits for the reductions, clips, updates and starts the gathers. If a gradient is not finite on any rank, no rank
  /// changes parameters, state and step count, and the report says so. Throws UsageError in a pass, before the last
  /// pass is complete, or if Weights occupy memory of a gather, and OptionError if a hyperparameter is out of range, or
  /// changed although the state depends on it: correct it and call step() again. After AgreementError or CommError
  /// nothing was applied: repeat the whole step.
  Report step() {
    weights_.require_weights("step");
    progress_.require_complete();
    options_.validate();
    engine::check_rules(rules_, first_rules_);
    progress_.at("norm");
    return guarded([&] {
      parameters_.post_all();
      decision_.raise_difference(progress_.steps() - 1);
      decision_.begin(rules_);
      for (int b = sharding_.buckets() - 1; b >= 0; --b) reduce_.finish(b, progress_.steps());
      mine_.add_squares(executor_, reduce_, decision_.squares());
      reduce_.settle();
      decision_.decide(reductions_, step_settings(), reduce_.divisor(), rules_, absent(), progress_.steps());
      if (decision_.may_be_applied()) update();
      const index_t attempt = progress_.end_step();
      reduce_.begin_step(progress_.leaves());
      weight_check_.note(attempt + 1, parameters_);
      return Report(decision_.last(), decision_.agreed(), layout(), attempt);
    });
  }

  /// Drops the micro-batches of the step so far, for an exception in the caller's forward. An open pass and calls that
  /// throw AgreementError or CommError do this themselves; a second call has no effect. Other ranks get CommError, and
  /// all ranks repeat the step.
  void drop_step() noexcept {
    if (std::exchange(dropped_, true)) return;
    reductions_.drop();
    reduce_.drop();
    parameters_.drop();
    progress_.drop();
    parameters_.begin_forward();
  }

  /// The hyperparameters of a group; with Rules<...>, rule<AdamW>(group). May be changed between steps, alike on all ranks.
  template <class Type = Rule>
  Type& rule(int group = 0) {
    auto& groups = tessera::rule::of_type<Type>(rules_);
    if (group < 0 || group >= static_cast<int>(groups.size()))
      throw OptionError(message({"there is no hyperparameter group ", group, ": ", groups.size(), " rules were given"}));
    return groups[to_size(group)];
  }

  /// Options::clip_norm. May be changed between steps, to the same value on every rank.
  double& clip_norm() noexcept { return options_.clip_norm; }

  /// The factor by which the caller multiplies the loss before backward: 1 unless Precision scales it. Only step()
  /// changes it. Blocks on an asynchronous executor; kernels read loss_scale_pointer() instead.
  float loss_scale() const { return decision_.loss_scale(); }
  const float* loss_scale_pointer() const noexcept { return &decision_.numbers()->loss_scale; }

  const Layout& layout() const noexcept { return sharding_.layout(); }
  const Plan& plan() const noexcept { return plan_; }
  /// Bytes that this rank holds: those that the executor allocated, and the caller's buffers.
  index_t bytes() const noexcept { return executor_.allocated_bytes() + caller_bytes_; }
  /// The maximum of bytes() so far.
  index_t peak_bytes() const noexcept { return executor_.peak_bytes() + caller_bytes_; }
  /// The number of steps applied. Blocks on an asynchronous executor.
  index_t steps() const { return decision_.outcome().get().steps; }

 private:
  friend Pass;
  friend engine::BetweenSteps<Sharded, ControlState<Rule>>;

  using Reduction = engine::Reduce<Comm, Stage, Precision>;
  using Decision = engine::StepDecision<Rule, Executor>;
  using State = engine::OptimizerState<Rule, Stage, Precision, Executor, Decision>;
  using Parameters = std::conditional_t<Stage::shards_parameters, engine::ShardedParameters<Comm, Parameter, Stage::parameters, Stage::state>,
                                        engine::WholeParameters<Comm, Parameter, Stage::shards_state>>;

  // Checks the arguments, on all ranks, before anything is allocated.
  const Layout& checked(const Layout& layout, const Buffers& buffers) {
    construction_.begin(engine::describe<Rule, Stage, Precision>(layout, rules_, options_), options_, rules_, [&](auto& blueprint) {
      engine::check_model<Rule, Stage>(layout, rules_, options_);
      engine::check_buffers<Stage>(layout, plan(layout, comm_.size(), options_), executor_, buffers.parameters,
                           buffers.gradients, blueprint);
    });
    return layout;
  }

  template <class Part>
  auto gather_part(Unit unit, Part part) {
    weights_.require_weights("gather");
    progress_.at(unit);
    auto weights = guarded([&] { return parameters_.gather(part); });
    weights_.gathered(part);
    return weights;
  }

  void update() {
    weights_.change();
    weight_check_.forget();
    parameters_.before_update();
    state_.measure(reduce_.sums(), parameters_.array(), reductions_, absent(), progress_.steps());
    for (int b = 0; b < sharding_.buckets(); ++b) {
      progress_.at("update", "bucket", b);
      state_.update(b, reduce_.sums(), parameters_.array(), absent());
      parameters_.publish(b, progress_.steps());
    }
  }

  // A function that tells whether a unit got no gradient in this step.
  auto absent() const {
    return [this](Unit unit) { return progress_.absent(unit); };
  }

  engine::StepSettings step_settings() const {
    return {progress_.micro_batches(), options_.clip_norm, evaluation_.changes()};
  }

  void send_complete() {
    guarded([&] {
      parameters_.post_unblocked();
      for (int b = progress_.depart(); b >= 0; b = progress_.depart())
        reduce_.depart(b, progress_.passes(), progress_.tag());
    });
    if (progress_.close_pass_if_complete()) parameters_.begin_forward();
  }

  // An error between ranks drops the step on this rank.
  template <class Work>
  auto guarded(Work work) {
    dropped_ = false;
    try {
      return work();
    } catch (const RankError&) {
      drop_step();
      throw;
    }
  }

  Comm comm_;
  Options options_;
  Groups rules_;
  Groups first_rules_;  // as passed to the constructor
  Queue reductions_;
  Queue gathers_;
  Executor executor_;
  engine::Construction<Executor, Queue> construction_;
  Sharding sharding_;
  Plan plan_;
  Parameters parameters_;
  Reduction reduce_;
  Decision decision_;
  State state_;
  engine::StepProgress progress_;
  engine::GatherProgress weights_;
  engine::WeightCheck<Stage, Comm> weight_check_;
  engine::Evaluation evaluation_;
  engine::OwnedParts mine_;
  index_t caller_bytes_ = 0;
  bool dropped_ = false;  // drop_step() was called, and nothing has started since
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace tessera
