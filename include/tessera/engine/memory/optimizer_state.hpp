// Master weights and optimizer state of the elements that this rank updates: its shard if the stage shards state, else
// all elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/kernels/step_numbers.hpp>
#include <tessera/engine/kernels/update.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/engine/memory/tensor_norms.hpp>
#include <tessera/engine/memory/tensor_slice.hpp>
#include <tessera/layout/sharding.hpp>
#include <tessera/precision/precision.hpp>

namespace tessera::engine {

/// A fused update that reads scale, rule, scalars and random bits from the control state when it runs.
template <class Rule, class Precision>
struct UpdateOfStep {
  using Element = FusedUpdate<Rule, Precision>;

  Element element{};
  const StepRule<Rule>* rule = nullptr;
  StepNumbers* numbers = nullptr;
  const TensorNorm* norm = nullptr;  ///< of the tensor; null if the rule needs none, or before it is computed
  std::uint64_t seed = 0;
  const std::uint64_t* absent = nullptr;  ///< number of ranks without a gradient of the unit; null: this rank has one
  std::uint64_t world = 0;

  static constexpr int pack_elements = Element::pack_elements;
  index_t lead() const noexcept { return element.lead(); }

  TESSERA_HD bool enabled() const noexcept { return numbers->outcome.applied && !(absent && *absent == world); }

  TESSERA_HD Element bind() const noexcept {
    Element complete = element;
    complete.rule = rule->rule;
    complete.scalars = rule->scalars;
    complete.scale = numbers->outcome.gradient_scale;
    complete.first_non_finite = &numbers->first_non_finite_weight.place;
    if constexpr (requires { complete.weight.random; })
      complete.weight.random = core::StepRandom(seed, numbers->outcome.steps);
    if constexpr (NeedsTensorNorms<Rule>)
      if (norm) complete.scalars = complete.rule.with_trust_ratio(complete.scalars, norm->of_weights(), norm->of_norm_input());
    return complete;
  }
};

/// A loop with body `Body`, which is constructed from the update of a step.
template <class Body, class Rule, class Precision>
struct OfUpdate {
  UpdateOfStep<Rule, Precision> update;

  TESSERA_HD bool enabled() const noexcept { return update.enabled(); }
  TESSERA_HD Body bind() const noexcept { return Body{update.bind()}; }
};

/// Sets a weight from its parameter.
template <class Kept>
struct StartWeight {
  Kept weight;
  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    weight.store(i, static_cast<float>(weight.parameter[i]));
  }
};

/// Control: StepDecision, whose control state the updates read.
template <class Rule, class Stage, class Precision, class Executor, class Control>
class OptimizerState {
 public:
  using Parameter = typename Precision::Parameter;

  static constexpr Placement where = Stage::state;

  using Kept = precision::KeptWeight<Parameter, typename Precision::Master>;

  /// decision: the control state that updates read and that enables them. seed: of stochastic rounding.
  OptimizerState(const Sharding& sharding, int rank, Executor& executor, const Plan& plan,
                 const Control& decision, std::uint64_t seed)
      : sharding_(&sharding),
        rank_(rank),
        executor_(&executor),
        decision_(&decision),
        seed_(seed),
        master_(executor, plan.master_weights),
        state_(executor, plan.optimizer_state),
        trained_(executor, plan.training_weights),
        member_elements_(plan.optimizer_state.elements),
        norms_(executor, plan, NeedsTensorNorms<Rule> ? sharding.layout().tensors().size() : 0) {
    for (int b = 0; b < sharding.buckets(); ++b) {
      segments_.push_back(sharding.segments(sharding.bucket(b), updated(b), NeedsTensorNorms<Rule>));
      if constexpr (peers_measure) {
        const Range held = updated(b), owned = masters().owned(b);
        measured_.push_back(sharding.segments(sharding.bucket(b), owned, true));
        measured_by_peers_.push_back(sharding.segments(sharding.bucket(b), {held.begin, owned.begin}, true));
        for (const layout::Segment& segment : sharding.segments(sharding.bucket(b), {owned.end, held.end}, true))
          measured_by_peers_.back().push_back(segment);
      }
    }
  }

  /// The elements of bucket `b` that this rank updates.
  Range updated(int b) const { return masters().held(b); }

  /// The weights from offset `place` on, which must be in updated(b).
  template <class Parameters>
  Kept kept(int b, index_t place, const Parameters& parameters) const noexcept {
    Kept kept;
    kept.parameter = parameters.at(b, place);
    if constexpr (requires { kept.master; }) kept.master = masters().at(b, place);
    kept.place = place;
    return kept;
  }

  /// Sets the master weights from the parameters.
  template <class Parameters>
  void start_from(const Parameters& parameters) {
    if constexpr (requires(Kept kept) { kept.master; })
      for (int b = 0; b < sharding_->buckets(); ++b)
        for (const layout::Segment& segment : segments_[to_size(b)]) {
          executor_->for_each(segment.place.size(), StartWeight<Kept>{kept(b, segment.place.begin, parameters)});
        }
  }

  /// Sets all optimizer state to zero.
  void clear() {
    executor_->for_each(std::ssize(state_.span()), Zero<typename Precision::State>{state_.data()});
  }

  /// Sets the seed of stochastic rounding for later updates.
  void set_seed(std::uint64_t seed) noexcept { seed_ = seed; }

  /// Calls visit(name, array) for each array that persists between steps, except parameters. evaluating: includes
  /// "trained".
  template <class Visit>
  void for_each_array(bool evaluating, Visit visit) const {
    if constexpr (requires(Kept kept) { kept.master; }) visit("master", masters());
    for (std::size_t s = 0; s < state_floats<Rule>; ++s) visit(Rule::state_names[s], member(s));
    if constexpr (HasEvaluationWeights<Rule> && !precision::parameter_follows_master<Precision>)
      if (evaluating) visit("trained", trained());
  }

  /// Calls visit(slice) for the slices of these arrays (engine/memory/tensor_slice.hpp).
  template <bool to_write, class Visit>
  void for_each_slice(bool evaluating, bool owned_only, Visit& visit) const {
    for_each_array(evaluating, [&](const char* name, const auto& array) {
      tessera::engine::for_each_slice<to_write>(*sharding_, false, owned_only, name, array, visit);
    });
  }

  /// A digest of the tensor in these arrays, if this rank holds all of it. Blocks.
  std::uint64_t digest(Tensor t, bool evaluating = false) requires(!Stage::shards_state) {
    core::Digest digest;
    if (sharding_->layout().frozen(t)) return digest.value();
    for_each_array(evaluating, [&]<class T>(const char*, const FlatArray<T, where>& array) {
      const std::span<const T> values = array.span(sharding_->layout().place(t));
      digest.add(static_cast<std::int64_t>(executor_->digest(values)));
    });
    return digest.value();
  }

  /// Computes the norms of all tensors over all ranks, if the rule needs them. Called before the update of the first
  /// bucket. step: the tag of the collective. Throws CommError.
  template <class Gradients, class Parameters, class Queue, class Absent>
  void measure(const Gradients& gradients, const Parameters& parameters, Queue& queue, Absent absent, index_t step) {
    if constexpr (NeedsTensorNorms<Rule>) {
      norms_.clear();
      for (int b = 0; b < sharding_->buckets(); ++b) {
        for (const layout::Segment& segment : peers_measure ? measured_[to_size(b)] : segments_[to_size(b)])
          measure(b, segment, gradients, parameters, absent, *norms_.of(segment.tensor));
        // Computing a norm input also updates the rule's state, so this runs for elements that peers own too.
        if constexpr (peers_measure)
          for (const layout::Segment& segment : measured_by_peers_[to_size(b)])
            measure(b, segment, gradients, parameters, absent, *norms_.unused());
      }
      if constexpr (Stage::shards_state) norms_.exchange(queue, step);
      norms_.finish();
    }
  }

  /// Updates bucket `b` in one pass over memory, if the step is applied: unscale, rule, master weight, state, and
  /// parameter. absent(unit): whether this rank had no gradient of the unit in this step. A unit without a gradient on
  /// any rank does not change.
  template <class Gradients, class Parameters, class Absent>
  void update(int b, const Gradients& gradients, const Parameters& parameters, Absent absent) {
    const auto run = [&](const layout::Segment& segment, const Unit* unit) {
      auto update = update_of(b, segment, gradients, parameters);
      if constexpr (NeedsTensorNorms<Rule>) update.norm = norms_.of(segment.tensor);
      if (unit) leave_alone_if_absent(update, *unit);
      executor_->for_each(segment.place.size(), update);
    };
    for (const layout::Segment& segment : segments_[to_size(b)]) {
      // A segment may span units. A unit can be absent on all ranks only if it is absent on this one: those units get
      // separate loops.
      layout::Segment rest = segment;
      const Layout& layout = sharding_->layout();
      for (int i = layout.unit_of(segment.tensor).index; i < sharding_->bucket(b).last_unit; ++i) {
        const Unit u{i};
        if (layout.trainable(u).begin >= segment.place.end) break;
        if (!absent(u)) continue;
        const Range shared = layout::intersect(layout.trainable(u), rest.place);
        if (shared.empty()) continue;
        if (rest.place.begin < shared.begin) run({{rest.place.begin, shared.begin}, segment.group, segment.tensor}, nullptr);
        run({shared, segment.group, segment.tensor}, &u);
        rest.place.begin = shared.end;
      }
      if (!rest.place.empty()) run(rest, nullptr);
    }
  }

  /// Sets the parameters of bucket `b` to the evaluation weights and saves the training weights.
  template <class Parameters>
  void begin_evaluation(int b, const Parameters& parameters, const std::vector<Rule>& rules) {
    for (const layout::Segment& segment : segments_[b]) {
      auto element = element_of(b, segment, parameters);
      element.rule = rules[to_size(segment.group)];
      executor_->for_each(segment.place.size(),
                          BeginEvaluation<Rule, Precision>{element, trained().at(b, segment.place.begin)});
    }
  }

  /// Restores the training weights.
  template <class Parameters>
  void end_evaluation(int b, const Parameters& parameters) {
    for (const layout::Segment& segment : segments_[b]) {
      const index_t begin = segment.place.begin;
      executor_->for_each(segment.place.size(),
                          EndEvaluation<Precision>{kept(b, begin, parameters), trained().at(b, begin)});
    }
  }

 private:
  // Norms are summed over all ranks. If peers update the same elements, each rank adds only those that it owns.
  static constexpr bool peers_measure = NeedsTensorNorms<Rule> && where.extent == Extent::group;

  template <class Gradients, class Parameters, class Absent>
  void measure(int b, const layout::Segment& segment, const Gradients& gradients, const Parameters& parameters,
               Absent absent, TensorNorm& norm) {
    auto update = update_of(b, segment, gradients, parameters);
    const Unit unit = sharding_->layout().unit_of(segment.tensor);
    if (absent(unit)) leave_alone_if_absent(update, unit);
    const index_t n = segment.place.size();
    const index_t lead = segment.place.begin % block;
    executor_->add_squares_of(n, lead, OfUpdate<WeightOf<Rule, Precision>, Rule, Precision>{update}, &norm.weights);
    executor_->add_squares_of(n, lead, OfUpdate<MeasuredOf<Rule, Precision>, Rule, Precision>{update}, &norm.norm_input);
  }

  template <class Parameters>
  FusedUpdate<Rule, Precision> element_of(int b, const layout::Segment& segment, const Parameters& parameters) {
    const index_t begin = segment.place.begin;
    FusedUpdate<Rule, Precision> element;
    element.weight = kept(b, begin, parameters);
    for (std::size_t s = 0; s < state_floats<Rule>; ++s)
      element.state[s] = member(s).at(b, begin);
    return element;
  }

  template <class Gradients, class Parameters>
  UpdateOfStep<Rule, Precision> update_of(int b, const layout::Segment& segment, const Gradients& gradients,
                                          const Parameters& parameters) {
    auto element = element_of(b, segment, parameters);
    element.gradient = gradients.at(b, segment.place.begin);
    return {element, decision_->rule(segment.group), decision_->numbers(), nullptr, seed_};
  }

  void leave_alone_if_absent(UpdateOfStep<Rule, Precision>& update, Unit unit) const noexcept {
    update.absent = decision_->absent(unit);
    update.world = static_cast<std::uint64_t>(sharding_->world());
  }

  FlatArray<typename Precision::Master, where> masters() const noexcept {
    return {sharding_->trainable(), rank_, master_.data()};
  }
  FlatArray<typename Precision::State, where> member(std::size_t s) const noexcept {
    return {sharding_->trainable(), rank_, state_.data() + static_cast<index_t>(s) * member_elements_};
  }
  FlatArray<Parameter, where> trained() const noexcept { return {sharding_->trainable(), rank_, trained_.data()}; }

  const Sharding* sharding_;
  int rank_;
  Executor* executor_;
  const Control* decision_;
  std::uint64_t seed_;
  Storage<Executor, typename Precision::Master> master_;
  Storage<Executor, typename Precision::State> state_;
  Storage<Executor, Parameter> trained_;  // the parameters of training, during evaluation
  index_t member_elements_;
  TensorNorms<Executor> norms_;
  core::List<core::List<layout::Segment>> segments_;  // by bucket: the elements that this rank updates
  core::List<core::List<layout::Segment>> measured_;  // of these, if peers_measure, the owned ones and the others
  core::List<core::List<layout::Segment>> measured_by_peers_;
};

}  // namespace tessera::engine
