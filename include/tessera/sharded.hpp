// The sharded optimizer: strings the steps of a training step together, computes nothing itself.
//
//     backward     gradients ... ready -> bucket departs (reduce-scatter, behind the backward of earlier units)
//     step         wait, fold -> norm -> agree -> fused update -> gather (behind the next forward)
//
// A rank's program is the same at every stage; what differs is which of the engine's parts is held.
#pragma once

#include <bit>
#include <cstring>
#include <exception>
#include <optional>
#include <type_traits>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/local.hpp>
#include <tessera/engine/agreement.hpp>
#include <tessera/engine/clip.hpp>
#include <tessera/engine/pass.hpp>
#include <tessera/engine/reduce.hpp>
#include <tessera/engine/report.hpp>
#include <tessera/engine/sharded_parameters.hpp>
#include <tessera/engine/update.hpp>
#include <tessera/engine/whole_parameters.hpp>
#include <tessera/exec/executor.hpp>
#include <tessera/layout/plan.hpp>
#include <tessera/layout/readiness.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/concept.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera {

/// Elements that each buffer of a caller's must have; 0: hand in none.
struct Required {
  index_t parameters = 0;
  index_t gradients = 0;
};

/// Optimizes the parameters of `layout`, sharded over the ranks of `comm` as Stage says. One object a rank, built and
/// called alike on every rank. Not thread-safe: one thread a rank.
/// Source: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models".
template <class Rule, class Stage, class Precision = Fp32, class Comm = Local>
class Sharded {
  static_assert(UpdateRule<Rule>,
                "Sharded<Rule, Stage, Precision, Comm>: the first argument must be an update rule, such as Adam");
  static_assert(StagePolicy<Stage>,
                "Sharded<Rule, Stage, Precision, Comm>: the second argument must be a stage, Stage0 to Stage3; sharded "
                "parameters need sharded gradients, and those need sharded state");
  static_assert(PrecisionPolicy<Precision>,
                "Sharded<Rule, Stage, Precision, Comm>: the third argument must be a precision, such as Fp32 or Bf16");
  static_assert(Communicator<Comm>,
                "Sharded<Rule, Stage, Precision, Comm>: the fourth argument must be a communicator, such as Local");
  static_assert(Comm::ordered, "Sharded needs a communicator that sums in the fixed order of design section 4");

 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;
  using Parameter = typename Precision::Parameter;
  using Gradient = typename Precision::Gradient;
  using Pass = BackwardPass<Sharded>;

  /// The caller's own memory, of at least required() elements; what is left out is allocated, and zero.
  struct Buffers {
    std::span<Parameter> parameters{};
    std::span<Gradient> gradients{};
  };

  /// All bytes that a rank will hold. Throws OptionError or LayoutError.
  static constexpr Plan plan(const Layout& layout, int world, const Options& options = {}) {
    return make_plan(Sharding(layout, world, bucket_elements(options)), options, footprint(world));
  }

  /// How many elements the caller's buffers need.
  static constexpr Required required(const Layout& layout, int world, const Options& options = {}) {
    const Plan plan = Sharded::plan(layout, world, options);
    return {plan.parameters.elements, plan.gradients.copies * plan.gradients.elements};
  }

  /// Builds this rank's part; parameters handed in are taken as the initial weights. Blocks until all ranks have come.
  /// rules: one a hyperparameter group. Throws, on every rank, what was wrong on any: BufferError, OptionError,
  /// LayoutError, or AgreementError where the ranks' versions, policies, layouts, options or rules differ.
  Sharded(const Comm& comm, const Layout& layout, const Buffers& buffers, std::vector<Rule> rules,
          const Options& options = {})
      : comm_(comm),
        options_(options),
        rules_(std::move(rules)),
        reductions_(comm_.queue(options.timeout)),
        gathers_(comm_.queue(options.timeout)),
        sharding_(checked(layout, buffers), comm_.size(), bucket_elements(options)),
        executor_(comm_.executor()),
        plan_(make_plan(sharding_, options, footprint(comm_.size()))),
        parameters_(sharding_, comm_.rank(), executor_, gathers_, plan_, options, buffers.parameters),
        reduce_(sharding_, comm_.rank(), executor_, reductions_, plan_, options.micro_batches, buffers.gradients),
        master_(executor_, plan_.master_weights),
        state_(executor_, plan_.optimizer_state),
        agreement_(executor_, plan_, comm_.rank(), comm_.size()),
        readiness_(sharding_),
        opened_(layout.units()),
        caller_bytes_(buffers.parameters.data() ? plan_.parameters.bytes() : 0) {
    if (buffers.gradients.data()) caller_bytes_ += plan_.gradients.bytes();
    for (int b = 0; b < sharding_.buckets(); ++b) {
      owned_.push_back(sharding_.within_units(sharding_.bucket(b), sharding_.trainable().owned(b, comm_.rank())));
      updated_.push_back(sharding_.segments(sharding_.bucket(b), updated_range(b)));
    }
    if constexpr (has_master) copy_to_master();
  }

  Sharded(const Comm& comm, const Layout& layout, const Buffers& buffers, const Rule& rule, const Options& options = {})
      : Sharded(comm, layout, buffers, std::vector<Rule>{rule}, options) {}

  Sharded(const Sharded&) = delete;
  Sharded& operator=(const Sharded&) = delete;

  /// Frees memory, after what is being moved has been moved; collectives that other ranks have not joined are withdrawn.
  ~Sharded() {
    reductions_.drop();
    gathers_.drop();
  }

  /// Sets every weight that this rank holds to value(tensor, i), i counting the tensor's elements row-major. `value` is
  /// a function of its arguments alone, so that the weights are the same at every stage and world size.
  template <class Value>
  void initialize(Value value) {
    require_between_steps("initialize");
    parameters_.before_update();
    for (int b = 0; b < sharding_.buckets(); ++b) {
      for_each_held(b, false, parameters_.held(b), [&](Tensor t, index_t i, index_t place) {
        *parameters_.at(b, place) = Parameter(static_cast<float>(value(t, i)));
      });
      for_each_held(b, true, parameters_.held_frozen(b), [&](Tensor t, index_t i, index_t place) {
        *parameters_.at_frozen(b, place) = Parameter(static_cast<float>(value(t, i)));
      });
      if constexpr (has_master)
        for_each_held(b, false, updated_range(b), [&](Tensor t, index_t i, index_t place) {
          *master_at(b, place) = static_cast<float>(value(t, i));
        });
    }
  }

  /// The unit's parameters, complete. Blocks while they come in; stage 3 starts the next ones on their way.
  Weights<Parameter> gather(Unit unit) {
    return guarded([&] { return parameters_.gather(unit); });
  }

  /// The same by range of the buffer of a flat layout.
  std::span<const Parameter> gather(index_t begin, index_t end) {
    require_range("gather", {begin, end});
    if constexpr (Stage::shards_parameters)
      throw UsageError("gather(begin, end) needs whole parameters: stages 0 to 2");
    else
      return guarded([&] { return parameters_.gather(Range{begin, end}); });
  }

  /// Starts one micro-batch's backward. Throws UsageError while another is open or when the step has all of its passes.
  [[nodiscard]] Pass backward() {
    if (pass_open_) throw UsageError("backward(): the last pass is still open: " + missing());
    if (passes_ == options_.micro_batches)
      throw UsageError("backward(): all " + std::to_string(passes_) + " micro-batches of the step are done: call step()");
    guarded([&] {
      if (sharding_.layout().is_flat()) clear_flat();
      return 0;
    });
    readiness_.begin();
    std::fill(opened_.begin(), opened_.end(), char{0});
    parameters_.begin_backward();
    pass_open_ = true;
    finish_pass_if_complete();
    return Pass(*this, ++pass_number_);
  }

  /// Waits for the reductions, clips, updates and starts the gathers. Gradients that are not finite on any rank leave
  /// parameters, state and step count as they were on all, and the report says so.
  /// Throws UsageError in the middle of a pass or of accumulation, OptionError for a hyperparameter out of range,
  /// AgreementError or CommError; then nothing was applied, and the step starts again.
  Report step() {
    require_complete();
    for (const Rule& rule : rules_) rule.check();
    return guarded([&] {
      SquareSum mine;
      for (int b = sharding_.buckets() - 1; b >= 0; --b) reduce_.finish(b, round_);
      for (int b = sharding_.buckets() - 1; b >= 0; --b) add_squares(b, mine);
      agreement_.exchange(reductions_, mine, digest_of_step(), round_);
      const double leaves = static_cast<double>(comm_.size()) * options_.micro_batches;
      const double norm = gradient_norm(agreement_.square_sum(), leaves);
      const index_t bad = agreement_.first_non_finite();
      if (bad < 0) update(gradient_scale(norm, options_.clip_norm, leaves));
      passes_ = 0;
      ++round_;
      return Report(step_, norm, bad < 0 ? std::string() : name_at(bad));
    });
  }

  /// The hyperparameters of a group, to be changed between steps, alike on every rank.
  Rule& rule(int group = 0) {
    if (group < 0 || group >= static_cast<int>(rules_.size()))
      throw OptionError("there is no hyperparameter group " + std::to_string(group) + ": " +
                        std::to_string(rules_.size()) + " rules were given");
    return rules_[group];
  }

  const Layout& layout() const noexcept { return sharding_.layout(); }
  const Plan& plan() const noexcept { return plan_; }
  /// Bytes that this rank holds: counted by the executor, and what the caller handed in.
  index_t bytes() const noexcept { return executor_.allocated_bytes() + caller_bytes_; }
  /// The most that they ever were.
  index_t peak_bytes() const noexcept { return executor_.peak_bytes() + caller_bytes_; }
  /// Steps applied.
  index_t steps() const noexcept { return step_; }

 private:
  friend Pass;

  static constexpr bool has_master = !std::is_same_v<Parameter, float>;
  using Parameters = std::conditional_t<Stage::shards_parameters, ShardedParameters<Comm, Parameter>,
                                        WholeParameters<Comm, Parameter, Stage::shards_state>>;

  static constexpr index_t bucket_elements(const Options& options) {
    return options.bucket_bytes / static_cast<index_t>(sizeof(Gradient));
  }

  static constexpr Footprint footprint(int world) {
    return {.parameters_sharded = Stage::shards_parameters,
            .gradients_sharded = Stage::shards_gradients,
            .state_sharded = Stage::shards_state,
            .reduced_in_place = std::is_same_v<Gradient, typename Precision::Reduction>,
            .parameter_bytes = sizeof(Parameter),
            .gradient_bytes = sizeof(Gradient),
            .reduction_bytes = sizeof(typename Precision::Reduction),
            .master_bytes = has_master ? sizeof(float) : 0,
            .state_floats = state_floats<Rule>,
            .agreement_words = StepAgreement<Executor>::words(world)};
  }

  // --- construction -------------------------------------------------------------------------------------------------

  // Before anything is allocated: what is wrong on this rank, then what differs between ranks, in one exchange, so that
  // a rank that cannot be built does not leave the others waiting.
  const Layout& checked(const Layout& layout, const Buffers& buffers) {
    Blueprint blueprint = describe(layout);
    std::exception_ptr problem;
    try {
      check(layout, buffers);
    } catch (const Error& error) {
      problem = std::current_exception();
      blueprint.refuse(error.what());
    }
    try {
      agree(comm_.executor(), reductions_, comm_.rank(), comm_.size(), blueprint);
    } catch (const AgreementError&) {
      if (!problem) throw;
    }
    if (problem) std::rethrow_exception(problem);
    return layout;
  }

  void check(const Layout& layout, const Buffers& buffers) const {
    options_.check();
    for (const Rule& rule : rules_) rule.check();
    for (const Tensor t : layout.tensors())
      if (layout.group(t) >= static_cast<int>(rules_.size()))
        throw OptionError("tensor '" + layout.name(t) + "' is of hyperparameter group " +
                          std::to_string(layout.group(t)) + ", but " + std::to_string(rules_.size()) +
                          " rules were given");
    if (layout.is_flat() && Stage::shards_gradients)
      throw LayoutError("a flat layout keeps its gradients in the caller's buffer: stages 0 and 1, not " +
                        std::string(Stage::name));
    const Plan plan = Sharded::plan(layout, comm_.size(), options_);
    check_buffer(buffers.parameters, plan.parameters);
    check_buffer(buffers.gradients, plan.gradients);
    check_apart(buffers.parameters, buffers.gradients);
  }

  Blueprint describe(const Layout& layout) const {
    Blueprint blueprint;
    Digest rules;
    for (const Rule& rule : rules_) rules.add(std::as_bytes(std::span(&static_cast<const typename Rule::Scalars&>(rule.at(1)), 1)));
    blueprint.set(0, "version", std::to_string(version), static_cast<std::uint64_t>(version));
    blueprint.set(1, "rule", Rule::name, state_floats<Rule>);
    blueprint.set(2, "stage", Stage::name, 0);
    blueprint.set(3, "precision", Precision::name, sizeof(Parameter));
    blueprint.set(4, "layout",
                  std::to_string(layout.parameters()) + " parameters in " + std::to_string(layout.units()) + " units (digest " +
                      std::to_string(layout.digest()) + ")",
                  layout.digest());
    blueprint.set(5, "options", options_.describe(), options_.digest());
    blueprint.set(6, "hyperparameters", std::to_string(rules_.size()) + " rules (digest " + std::to_string(rules.value()) + ")",
                  rules.value());
    return blueprint;
  }

  // The caller's parameters are the first weights; the master of this rank's part is taken from them.
  void copy_to_master() {
    for (int b = 0; b < sharding_.buckets(); ++b)
      for (const Segment& segment : updated_[b]) {
        const Parameter* from = parameters_.at(b, segment.place.begin);
        float* to = master_at(b, segment.place.begin);
        executor_.for_each(segment.place.size(), [=](index_t i) noexcept { to[i] = static_cast<float>(from[i]); });
      }
  }

  // --- places -------------------------------------------------------------------------------------------------------

  // What this rank updates of bucket `b`: everything at stage 0, its part else.
  Range updated_range(int b) const {
    return Stage::shards_state ? sharding_.trainable().owned(b, comm_.rank()) : sharding_.trainable().range(b);
  }

  // Where master weights and state keep the element at `place`.
  index_t state_offset(int b, index_t place) const {
    return Stage::shards_state ? sharding_.trainable().shard_begin(b) + place - updated_range(b).begin : place;
  }
  float* master_at(int b, index_t place) { return master_.data() + state_offset(b, place); }

  template <class Visit>
  void for_each_held(int b, bool frozen, Range held, Visit visit) {
    const Bucket& bucket = sharding_.bucket(b);
    for (int u = bucket.first_unit; u < bucket.last_unit; ++u)
      for (const Tensor t : layout().tensors(Unit{u})) {
        if (layout().frozen(t) != frozen) continue;
        const Range place = layout().place(t);
        const Range shared = intersect(place, held);
        for (index_t i = shared.begin; i < shared.end; ++i) visit(t, i - place.begin, i);
      }
  }

  std::string name_at(index_t place) const {
    for (const Tensor t : layout().tensors())
      if (!layout().frozen(t) && layout().place(t).begin <= place && place < layout().place(t).end) return layout().name(t);
    return "padding";
  }

  // --- the step -----------------------------------------------------------------------------------------------------

  void add_squares(int b, SquareSum& sum) {
    const auto reduced = reduce_.sum(b);
    const index_t begin = sharding_.trainable().owned(b, comm_.rank()).begin;
    for (const Range range : owned_[b]) sum.add(executor_, reduced.subspan(range.begin - begin, range.size()), range);
  }

  void update(float scale) {
    ++step_;
    parameters_.before_update();
    for (int b = 0; b < sharding_.buckets(); ++b) {
      for (const Segment& segment : updated_[b]) update(b, segment, scale);
      parameters_.publish(b, round_);
    }
  }

  void update(int b, const Segment& segment, float scale) {
    const index_t begin = segment.place.begin;
    const Rule& rule = rules_[segment.group];
    FusedUpdate<Rule, typename Precision::Reduction, Parameter> element;
    element.gradient = reduce_.at(b, begin);
    element.parameter = parameters_.at(b, begin);
    if constexpr (has_master)
      element.weight = master_at(b, begin);
    else
      element.weight = element.parameter;
    for (std::size_t s = 0; s < element.state.size(); ++s)
      element.state[s] = state_.data() + s * plan_.optimizer_state.elements + state_offset(b, begin);
    element.rule = rule;
    element.scalars = rule.at(step_);
    element.scale = scale;
    executor_.for_each(segment.place.size(), element);
  }

  // Hyperparameters too: a learning rate that differs between ranks would part them silently.
  std::uint64_t digest_of_step() const {
    Digest digest;
    digest.add(round_).add(step_);
    for (const Rule& rule : rules_) {
      const typename Rule::Scalars scalars = rule.at(step_ + 1);
      digest.add(std::as_bytes(std::span(&scalars, 1)));
    }
    return digest.value();
  }

  // --- passes -------------------------------------------------------------------------------------------------------

  UnitView<Gradient> open_gradients(Unit unit) {
    const Layout& layout = this->layout();
    const std::string name(layout.name(unit));
    if (layout.is_flat()) throw UsageError("gradients(unit): a flat layout's gradients are the caller's buffer");
    if (readiness_.ready(unit))
      throw UsageError("gradients('" + name + "'): the unit is ready already in this pass");
    return guarded([&] {
      const int b = sharding_.bucket_of(unit);
      const Range bucket = sharding_.bucket(b).trainable;
      const Range range = layout.trainable(unit);
      Gradient* const room = reduce_.gradients().open(b, unit) + (range.begin - bucket.begin);
      if (!opened_[unit.index]) {
        // The gap behind the unit too: it is reduced along with the bucket and must stay zero.
        const index_t end = std::min(round_up(range.end, block), bucket.end);
        std::fill_n(room, end - range.begin, Gradient{});
        opened_[unit.index] = 1;
      }
      return UnitView<Gradient>(layout, unit, room, nullptr);
    });
  }

  void mark_ready(Unit unit) {
    const std::string_view name = layout().name(unit);
    if (layout().is_flat()) throw UsageError("ready(unit): a flat layout is reported by ready(begin, end)");
    if (!opened_[unit.index] && !layout().trainable(unit).empty())
      throw UsageError("ready('" + std::string(name) + "') without gradients('" + std::string(name) +
                       "') in this pass: ask for them first, they are zeroed for you");
    if (!readiness_.mark(unit)) throw UsageError("ready('" + std::string(name) + "') a second time in this pass");
    depart();
  }

  void mark_ready(Range range) {
    if (!layout().is_flat()) throw UsageError("ready(begin, end) is for flat layouts: this one has units, use ready(unit)");
    require_range("ready", range);
    if (!readiness_.mark(range))
      throw UsageError("ready(" + std::to_string(range.begin) + ", " + std::to_string(range.end) +
                       "): part of it was ready already in this pass");
    depart();
  }

  void depart() {
    guarded([&] {
      for (int b = readiness_.depart(); b >= 0; b = readiness_.depart())
        reduce_.depart(b, passes_, round_ * options_.micro_batches + passes_);
      return 0;
    });
    finish_pass_if_complete();
  }

  void finish_pass_if_complete() {
    if (!readiness_.complete()) return;
    pass_open_ = false;
    ++passes_;
    dropped_because_.clear();
    parameters_.begin_forward();
  }

  // A pass left unfinished takes the step's earlier passes with it: ranks cannot know how far each of them had come, but
  // all of them know how to start a step.
  void drop_pass() noexcept {
    dropped_because_ = missing();
    drop_step();
  }

  void drop_step() noexcept {
    reductions_.drop();
    if constexpr (Stage::shards_parameters) gathers_.drop();
    reduce_.drop();
    if constexpr (Stage::shards_parameters) parameters_.drop();
    pass_open_ = false;
    ++pass_number_;
    passes_ = 0;
    parameters_.begin_forward();
  }

  // Whatever fails between ranks ends the step for this rank; the next one starts clean.
  template <class Work>
  auto guarded(Work work) {
    try {
      return work();
    } catch (const CommError&) {
      drop_step();
      throw;
    } catch (const AgreementError&) {
      drop_step();
      throw;
    }
  }

  void clear_flat() {
    if constexpr (!Stage::shards_gradients) {
      for (int b = 0; b < sharding_.buckets(); ++b) reduce_.gradients().open(b, Unit{0});
      std::ranges::fill(reduce_.gradients().all(), Gradient{});
    }
  }

  // --- misuse -------------------------------------------------------------------------------------------------------

  std::string missing() const {
    if (layout().is_flat()) return "not all of its range was ready";
    return "unit '" + std::string(layout().name(readiness_.first_missing())) + "' was never ready";
  }

  void require_complete() const {
    if (pass_open_) throw UsageError("step() in the middle of a pass: " + missing());
    if (passes_ != options_.micro_batches)
      throw UsageError("step() after " + std::to_string(passes_) + " of " + std::to_string(options_.micro_batches) +
                       " micro-batches" +
                       (dropped_because_.empty() ? std::string() : ": the last pass was dropped, " + dropped_because_));
  }

  void require_between_steps(const char* call) const {
    if (pass_open_ || passes_ > 0) throw UsageError(std::string(call) + "() in the middle of a step");
  }

  void require_range(const char* call, Range range) const {
    if (range.begin < 0 || range.begin > range.end || range.end > layout().trainable_elements())
      throw UsageError(std::string(call) + "(" + std::to_string(range.begin) + ", " + std::to_string(range.end) +
                       ") is not within the buffer's " + std::to_string(layout().trainable_elements()) + " elements");
  }

  Comm comm_;
  Options options_;
  std::vector<Rule> rules_;
  Queue reductions_;
  Queue gathers_;
  Sharding sharding_;
  Executor executor_;
  Plan plan_;
  Parameters parameters_;
  Reduce<Comm, Stage, Precision> reduce_;
  Storage<Executor, float> master_;
  Storage<Executor, float> state_;
  StepAgreement<Executor> agreement_;
  Readiness readiness_;
  std::vector<char> opened_;                  // units whose gradients this pass has handed out
  std::vector<std::vector<Range>> owned_;     // a bucket: this rank's part, without the gaps between units
  std::vector<std::vector<Segment>> updated_; // a bucket: what this rank updates, by group
  index_t caller_bytes_ = 0;
  index_t step_ = 0;         // steps applied
  index_t round_ = 0;        // steps ended, applied or skipped
  index_t pass_number_ = 0;  // tells an old Pass from the open one
  int passes_ = 0;           // complete in this step
  bool pass_open_ = false;
  std::string dropped_because_;
};

}  // namespace tessera
