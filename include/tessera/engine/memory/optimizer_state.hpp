// Master weights and optimizer state of the elements that this rank updates: its shard if the stage shards state, else
// all elements.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/kernels/step_update.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/engine/memory/tensor_norms.hpp>
#include <tessera/engine/memory/tensor_slice.hpp>
#include <tessera/layout/sharding.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/rules.hpp>

namespace tessera::engine {

/// Control: StepDecision, whose control state the updates read. p: the index of a trainable piece.
template <class Rule, class Stage, class Precision, class Executor, class Control>
class OptimizerState {
  template <int r>
  using At = typename rule::Set<Rule>::template At<r>;
  using Groups = typename rule::Set<Rule>::Groups;

 public:
  using Parameter = typename Precision::Parameter;

  static constexpr Placement where = Stage::state;
  static constexpr bool has_evaluation_weights = rule::has_evaluation_weights<Rule>;

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
        state_(storage(executor, plan)),
        trained_(executor, plan.training_weights),
        norms_(executor, plan, rule::needs_tensor_norms<Rule> ? sharding.layout().tensors().size() : 0) {
    for (int r = 0; r < sharding.layout().rules(); ++r)
      for (int b = 0; b < sharding.buckets(); ++b) add_segments(b, r);
  }

  /// The elements of piece `p` that this rank updates.
  Range updated(int p) const { return masters().held(p); }

  /// The weights from offset `place` on, which must be in updated(p).
  template <class Parameters>
  Kept kept(int p, index_t place, const Parameters& parameters) const noexcept {
    Kept kept;
    kept.parameter = parameters.at(p, place);
    if constexpr (requires { kept.master; }) kept.master = masters().at(p, place);
    kept.place = place;
    return kept;
  }

  /// Sets the master weights from the parameters.
  template <class Parameters>
  void start_from(const Parameters& parameters) {
    if constexpr (requires(Kept kept) { kept.master; })
      for (std::size_t p = 0; p < segments_.size(); ++p)
        for (const layout::Segment& segment : segments_[p])
          executor_->for_each(segment.place.size(),
                              StartWeight<Kept>{kept(static_cast<int>(p), segment.place.begin, parameters)});
  }

  /// Sets all optimizer state to zero.
  void clear() {
    for (auto& state : state_)
      executor_->for_each(std::ssize(state.span()), Zero<typename Precision::State>{state.data()});
  }

  /// Sets the seed of stochastic rounding for later updates.
  void set_seed(std::uint64_t seed) noexcept { seed_ = seed; }

  /// Calls visit(name, array) for each array that persists between steps, except parameters. evaluating: includes
  /// "trained".
  template <class Visit>
  void for_each_array(bool evaluating, Visit visit) const {
    if constexpr (requires(Kept kept) { kept.master; }) visit("master", masters());
    rule::for_each<Rule>([&](auto r) {
      for (std::size_t s = 0; s < state_floats<At<r>>; ++s) visit(At<r>::state_names[s], member<r>(s));
      if constexpr (HasEvaluationWeights<At<r>> && !precision::parameter_follows_master<Precision>)
        if (evaluating) visit("trained", trained().within(sharding_->of_rule(r)));
    });
  }

  /// Calls visit(slice) for the slices of these arrays (engine/memory/tensor_slice.hpp).
  template <bool to_write, class Visit>
  void for_each_slice(bool evaluating, bool owned_only, Visit& visit) const {
    for_each_array(evaluating, [&](const char* name, const auto& array) {
      tessera::engine::for_each_slice<to_write>(*sharding_, owned_only, name, array, visit);
    });
  }

  /// A digest of the tensor in these arrays, if this rank holds all of it. Blocks.
  std::uint64_t digest(Tensor t, bool evaluating = false) requires(!Stage::shards_state) {
    core::Digest digest;
    const int space = sharding_->layout().space(t);
    for_each_array(evaluating, [&]<class T>(const char*, const FlatArray<T, where>& array) {
      if (space < array.spaces().first || space >= array.spaces().last) return;
      const std::span<const T> values = array.span(sharding_->layout().place(t));
      digest.add(static_cast<std::int64_t>(executor_->digest(values)));
    });
    return digest.value();
  }

  /// Computes the norms of the tensors whose rule needs them, over all ranks. Called before the update of the first
  /// bucket. step: the tag of the collective. Throws CommError.
  template <class Gradients, class Parameters, class Queue, class Absent>
  void measure(const Gradients& gradients, const Parameters& parameters, Queue& queue, Absent absent, index_t step) {
    if constexpr (rule::needs_tensor_norms<Rule>) {
      norms_.clear();
      const auto measure_piece = [&](auto r, int p) {
        if constexpr (NeedsTensorNorms<At<r>>) {
          for (const layout::Segment& segment : (peers_measure ? measured_ : segments_)[to_size(p)])
            measure<r>(p, segment, gradients, parameters, absent, *norms_.of(segment.tensor));
          // Computing a norm input also updates the rule's state, so this runs for elements that peers own too.
          if constexpr (peers_measure)
            for (const layout::Segment& segment : measured_by_peers_[to_size(p)])
              measure<r>(p, segment, gradients, parameters, absent, *norms_.unused());
        }
      };
      for (int b = 0; b < sharding_->buckets(); ++b) for_each_piece(b, measure_piece);
      if constexpr (Stage::shards_state) norms_.exchange(queue, step);
      norms_.finish();
    }
  }

  /// Updates bucket `b` in one pass over memory, if the step is applied: unscale, rule, master weight, state, and
  /// parameter. absent(unit): whether this rank had no gradient of the unit in this step. A unit without a gradient on
  /// any rank does not change.
  template <class Gradients, class Parameters, class Absent>
  void update(int b, const Gradients& gradients, const Parameters& parameters, Absent absent) {
    for_each_piece(b, [&](auto r, int p) { update<r>(b, p, gradients, parameters, absent); });
  }

  /// Sets the parameters of bucket `b` to the evaluation weights and saves the training weights.
  template <class Parameters>
  void begin_evaluation(int b, const Parameters& parameters, const Groups& rules) {
    for_each_piece(b, [&](auto r, int p) {
      if constexpr (HasEvaluationWeights<At<r>>)
        for (const layout::Segment& segment : segments_[to_size(p)]) {
          auto element = element_of<r>(p, segment, parameters);
          element.rule = rule::of<r>(rules)[to_size(segment.group)];
          executor_->for_each(segment.place.size(),
                              BeginEvaluation<At<r>, Precision>{element, trained_at(p, segment.place.begin)});
        }
    });
  }

  /// Restores the training weights.
  template <class Parameters>
  void end_evaluation(int b, const Parameters& parameters) {
    for_each_piece(b, [&](auto r, int p) {
      if constexpr (HasEvaluationWeights<At<r>>)
        for (const auto& [place, group, tensor] : segments_[to_size(p)])
          executor_->for_each(place.size(), EndEvaluation<Precision>{kept(p, place.begin, parameters),
                                                                     trained_at(p, place.begin)});
    });
  }

 private:
  // Norms are summed over all ranks. If peers update the same elements, each rank adds only those that it owns.
  static constexpr bool peers_measure = rule::needs_tensor_norms<Rule> && where.extent == Extent::group;

  static auto storage(Executor& executor, const Plan& plan) {
    return [&]<int... r>(std::integer_sequence<int, r...>) {
      return std::array{Storage<Executor, typename Precision::State>(executor, plan.of_rule(r).optimizer_state)...};
    }(std::make_integer_sequence<int, rule::Set<Rule>::count>{});
  }

  // Appends the segments of the piece of bucket `b` and rule `r`, which is the next one in the order of pieces.
  void add_segments(int b, int r) {
    const int p = sharding_->piece(b, r);
    rule::with<Rule>(r, [&](auto type) {
      segments_.push_back(sharding_->segments(b, r, updated(p), NeedsTensorNorms<At<type>>));
    });
    if constexpr (peers_measure) {
      const Range held = updated(p), owned = masters().owned(p);
      measured_.push_back(sharding_->segments(b, r, owned, true));
      measured_by_peers_.push_back(sharding_->segments(b, r, {held.begin, owned.begin}, true));
      for (const layout::Segment& segment : sharding_->segments(b, r, {owned.end, held.end}, true))
        measured_by_peers_.back().push_back(segment);
    }
  }

  // Calls f(r, p) for the trainable pieces of bucket `b`, p with the rule r.
  template <class F>
  void for_each_piece(int b, const F& f) const {
    for (int s = 0; s < sharding_->layout().rules(); ++s)
      rule::with<Rule>(s, [&](auto r) { f(r, sharding_->piece(b, s)); });
  }

  template <int r, class Gradients, class Parameters, class Absent>
  void update(int b, int p, const Gradients& gradients, const Parameters& parameters, Absent absent) {
    const auto run = [&](const layout::Segment& segment, const Unit* unit) {
      auto update = update_of<r>(p, segment, gradients, parameters);
      if constexpr (NeedsTensorNorms<At<r>>) update.norm = norms_.of(segment.tensor);
      if (unit) leave_alone_if_absent(update, *unit);
      executor_->for_each(segment.place.size(), update);
    };
    for (const layout::Segment& segment : segments_[to_size(p)]) {
      // A segment may span units. A unit can be absent on all ranks only if it is absent on this one: those units get
      // separate loops.
      layout::Segment rest = segment;
      const Layout& layout = sharding_->layout();
      for (int i = layout.unit_of(segment.tensor).index; i < sharding_->bucket(b).last_unit; ++i) {
        const Unit u{i};
        const Range unit = layout.trainable(u, r);
        if (unit.begin >= segment.place.end) break;
        if (!absent(u)) continue;
        const Range shared = layout::intersect(unit, rest.place);
        if (shared.empty()) continue;
        if (rest.place.begin < shared.begin) run({{rest.place.begin, shared.begin}, segment.group, segment.tensor}, nullptr);
        run({shared, segment.group, segment.tensor}, &u);
        rest.place.begin = shared.end;
      }
      if (!rest.place.empty()) run(rest, nullptr);
    }
  }

  template <int r, class Gradients, class Parameters, class Absent>
  void measure(int p, const layout::Segment& segment, const Gradients& gradients, const Parameters& parameters,
               Absent absent, TensorNorm& norm) {
    using Type = At<r>;
    auto update = update_of<r>(p, segment, gradients, parameters);
    const Unit unit = sharding_->layout().unit_of(segment.tensor);
    if (absent(unit)) leave_alone_if_absent(update, unit);
    const index_t n = segment.place.size();
    const index_t lead = segment.place.begin % block;
    executor_->add_squares_of(n, lead, OfUpdate<WeightOf<Type, Precision>, Type, Precision>{update}, &norm.weights);
    executor_->add_squares_of(n, lead, OfUpdate<MeasuredOf<Type, Precision>, Type, Precision>{update}, &norm.norm_input);
  }

  template <int r, class Parameters>
  FusedUpdate<At<r>, Precision> element_of(int p, const layout::Segment& segment, const Parameters& parameters) {
    const index_t begin = segment.place.begin;
    FusedUpdate<At<r>, Precision> element;
    element.weight = kept(p, begin, parameters);
    for (std::size_t s = 0; s < state_floats<At<r>>; ++s) element.state[s] = member<r>(s).at(p, begin);
    return element;
  }

  template <int r, class Gradients, class Parameters>
  UpdateOfStep<At<r>, Precision> update_of(int p, const layout::Segment& segment, const Gradients& gradients,
                                           const Parameters& parameters) {
    auto element = element_of<r>(p, segment, parameters);
    element.gradient = gradients.at(p, segment.place.begin);
    return {element, decision_->template rule<r>(segment.group), decision_->numbers(), nullptr, seed_};
  }

  template <class Update>
  void leave_alone_if_absent(Update& update, Unit unit) const noexcept {
    update.absent = decision_->absent(unit);
    update.world = static_cast<std::uint64_t>(sharding_->world());
  }

  FlatArray<typename Precision::Master, where> masters() const noexcept {
    return {*sharding_, sharding_->trainable(), rank_, master_.data()};
  }
  template <int r>
  FlatArray<typename Precision::State, where> member(std::size_t s) const noexcept {
    const auto& state = state_[to_size(r)];
    const std::size_t elements = state.span().size() / state_floats<At<r>>;
    return {*sharding_, sharding_->of_rule(r), rank_, state.data() + s * elements};
  }
  FlatArray<Parameter, where> trained() const noexcept {
    return {*sharding_, sharding_->trainable(), rank_, trained_.data()};
  }
  Parameter* trained_at(int p, index_t place) const noexcept {  // null if the array is not needed
    return precision::parameter_follows_master<Precision> ? nullptr : trained().at(p, place);
  }

  const Sharding* sharding_;
  int rank_;
  Executor* executor_;
  const Control* decision_;
  std::uint64_t seed_;
  Storage<Executor, typename Precision::Master> master_;
  std::array<Storage<Executor, typename Precision::State>, to_size(rule::Set<Rule>::count)> state_;  // by rule
  Storage<Executor, Parameter> trained_;  // the parameters of training, during evaluation
  TensorNorms<Executor> norms_;
  core::List<core::List<layout::Segment>> segments_;  // by piece: the elements that this rank updates
  core::List<core::List<layout::Segment>> measured_;  // of these, if peers_measure, the owned ones and the others
  core::List<core::List<layout::Segment>> measured_by_peers_;
};

}  // namespace tessera::engine
