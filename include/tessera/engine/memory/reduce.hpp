// Sums the gradients of all ranks and passes, one bucket at a time: design section 4, points 1 to 3.
//
// An ordered communicator continues one sum over all micro-batches of the step (comm/tree.hpp); this class stores its
// partial sums between passes. Other communicators sum each pass as their library does, and this class merges passes
// like a binary counter: level l holds the sum of 2^l passes. Pass k is reduced into the level that it completes, the
// number of trailing ones of k, and the levels below are added to it. Those keep their values until overwritten.
//
//     pass          0     1        2     3
//     level 0       p0    .        p2    .
//     level 1             p0+p1          .
//     level 2                            (p0+p1)+(p2+p3)
//
// A sum that is rounded to 16 bits is first scaled to the mean (engine/kernels/partial_sums.hpp): by the communicator,
// or by this class if it merges several passes.
//
// If the communicator's sums are not ordered and gradients are whole, backward accumulates passes in place, and only
// the last pass is reduced.
#pragma once

#include <bit>
#include <span>
#include <type_traits>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/bucket_pieces.hpp>
#include <tessera/engine/memory/bucket_tag.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/engine/memory/footprint.hpp>
#include <tessera/engine/memory/gradient_check.hpp>
#include <tessera/engine/memory/gradients.hpp>
#include <tessera/engine/memory/views.hpp>
#include <tessera/layout/micro_batches.hpp>
#include <tessera/engine/kernels/partial_sums.hpp>

namespace tessera::engine {

template <class Comm, class Stage, class Precision>
class Reduce {
 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;
  using Event = typename Executor::Event;
  using Gradient = typename Precision::Gradient;
  using Reduction = typename Precision::Reduction;
  using Gradients = std::conditional_t<Stage::shards_gradients, SlottedGradients<Executor, Gradient>,
                                       WholeGradients<Executor, Gradient>>;

  /// The sum replaces the gradients in their buffer, which is whole and has the same type.
  static constexpr bool in_place = !Stage::shards_gradients && std::is_same_v<Gradient, Reduction>;

  /// The sums have the placement of the state that they update, or, in place, that of the gradients.
  using Sums = FlatArray<Reduction, in_place ? Stage::gradients : Stage::state>;
  using PartialSums = FlatArray<float, placement::world>;

  /// Backward accumulates passes.
  static constexpr bool in_place_passes = adds_passes<Stage>(Comm::ordered);

  /// micro_batches: per step, over all ranks.
  Reduce(const Sharding& sharding, int rank, Executor& executor, Queue& queue, const Plan& plan, index_t micro_batches,
         std::span<Gradient> of_caller, bool check_gradients = false)
      : sharding_(&sharding),
        rank_(rank),
        executor_(&executor),
        queue_(&queue),
        gradients_(sharding, rank, executor, plan, of_caller),
        check_(sharding, executor, check_gradients && !Stage::shards_gradients),
        reduced_(executor, plan.reduced_gradients),
        partial_(executor, plan.partial_sums),
        level_elements_(plan.partial_sums.elements),
        workspace_(executor, plan.reduction_workspace),
        events_(to_size(sharding.buckets())) {
    begin_step(micro_batches);
    note_gradients();
  }

  /// Sets the number of micro-batches of the next step over all ranks. The plan must have memory for it.
  void begin_step(index_t micro_batches) noexcept {
    step_ = {micro_batches, sharding_->world()};
    last_pass_ = step_.passes() - 1;
    mean_ = mean_of<Reduction>(static_cast<double>(micro_batches), Comm::ordered);
  }

  /// The number by which the reduced gradients of this step must be divided to be the mean over all micro-batches.
  double divisor() const noexcept { return mean_.divisor; }

  /// Starts a pass. With a flat layout the caller may write anywhere in the buffer from now on, so this waits until the
  /// buffer is free, and zeroes it unless this pass adds to an earlier one or the caller cleared it. options: the same
  /// in all passes of the step.
  void begin_pass(int pass, const PassOptions& options = {}) {
    if (Stage::shards_gradients && !options.zero)
      throw UsageError(message({"backward({.zero = false}) at ", Stage::name, ": gradients are written into slots that "
                                "hold anything before, stages 0 and 1 keep the caller's"}));
    mean_ = mean_of<Reduction>(static_cast<double>(step_.count) * options.sum_of, Comm::ordered);
    adding_ = in_place_passes && pass > 0;
    const bool idle = !step_.has(rank_, pass);
    if (adding_ || !(options.zero || idle)) return;
    if constexpr (!Stage::shards_gradients)
      if (sharding_->layout().is_flat()) {
        for (int b = 0; b < sharding_->buckets(); ++b) {
          gradients_.open(b, Unit{0});
          check_.require_unwritten(b, gradients_.array(), Unit{0});
        }
        executor_->for_each(std::ssize(gradients_.all()), Zero<Gradient>{gradients_.all().data()});
      }
  }

  /// The unit's gradients, safe to write. zero: clears them, and the padding after the unit, which is reduced with the
  /// bucket.
  UnitView<Gradient> open(Unit unit, bool zero) {
    const int b = sharding_->bucket_of(unit);
    gradients_.open(b, unit);
    zero = zero && !adding_;
    if constexpr (!Stage::shards_gradients)
      if (zero) check_.require_unwritten(b, gradients_.array(), unit);
    typename UnitView<Gradient>::Addresses addresses{};
    for (int s = 0; s < sharding_->layout().rules(); ++s) {
      const Range piece = sharding_->range(b, s);
      const Range range = sharding_->layout().range(unit, s);
      Gradient* const first = gradients_.at(b, s) + (range.begin - piece.begin);
      if (zero) executor_->for_each(min(round_up(range.end, block), piece.end) - range.begin, Zero<Gradient>{first});
      addresses[to_size(s)] = first;
    }
    return {sharding_->layout(), unit, addresses};
  }

  /// For a rank without a micro-batch in this pass, which must add nothing. An ordered sum does not read the memory.
  /// The sum of a library does, so the memory is cleared.
  void open_idle(Unit unit) { open(unit, !Comm::ordered); }

  /// Reductions posted later start after the work that is now on the stream.
  template <class Stream>
  void join(const Stream& producer) {
    if constexpr (in_place_passes)
      executor_->join(producer);  // a later pass adds to the same gradients
    else
      queue_->join(producer);
  }

  /// Posts the reduction of bucket `b` of `pass`.
  void depart(int b, int pass, index_t step) {
    if (empty(b) || (in_place_passes && pass < last_pass_)) return;
    if constexpr (Comm::ordered)
      continue_sum(b, pass, step);
    else if (adds_here())
      add_pass(b, pass, step);
    else
      post<Reduction>(b, [this](int p) { return own(p); }, no_sums, mean_.scale, {}, step);
    gradients_.sent(b, events_[to_size(b)]);
    if (!adds_here() && pass == last_pass_) share(b, step);
    if constexpr (!Stage::shards_gradients)
      if (pass < last_pass_) check_.note(b, gradients_.array());  // the reduction only reads them until the last pass
  }

  /// Called after the last pass: waits for bucket `b`, folds its partial sums and rounds the result once.
  void finish(int b, index_t step) {
    if (!adds_here() || empty(b)) return;
    merge(b, last_pass_);
    fold(b);
    share(b, step);
  }

  /// Waits for the sum of bucket `b`. Then sum(p, range), in a piece of the bucket, is complete, scaled and rounded.
  void wait(int b) { executor_->wait(events_[to_size(b)]); }
  std::span<const Reduction> sum(int p, Range range) const noexcept { return sums().span(p, range); }

  Sums sums() const noexcept { return {*sharding_, sharding_->trainable(), rank_, sums_data()}; }

  /// Called after the step waited for all sums: clears the events.
  void settle() {
    events_.fill(Event{});
    gradients_.settle();
    note_gradients();
  }

  /// Drops the step.
  void drop() {
    events_.fill(Event{});
    gradients_.drop();
    check_.forget();
  }

 private:
  void note_gradients() {
    if constexpr (!Stage::shards_gradients)
      for (int b = 0; b < sharding_->buckets(); ++b) check_.note(b, gradients_.array());
  }

  // Whether this class merges the sums of several passes, because the communicator's sums are not ordered.
  bool adds_here() const noexcept { return !Comm::ordered && !in_place_passes && last_pass_ > 0; }

  bool empty(int b) const { return sharding_->empty(b, sharding_->trainable()); }
  template <class F>  // calls f(s, p) for each trainable piece of bucket `b`, in space s
  void for_each_piece(int b, const F& f) const {
    for (int s = 0; s < sharding_->layout().rules(); ++s) f(s, sharding_->piece(b, s));
  }

  static float* no_sums(int) noexcept { return nullptr; }
  // out(p), sums(p): this rank's memory for the result and for partial sums of piece p.
  template <class Out, class OutOf, class SumsOf>
  void post(int b, const OutOf& out, const SumsOf& sums, float scale, const Carry& carry, index_t step) {
    BucketPieces<Gradient, Out> pieces;
    for_each_piece(b, [&](int s, int p) {
      const index_t n = sharding_->range(b, s).size();
      pieces.add(n, {{gradients_.at(b, s), to_size(n)}, out(p), sharding_->partition().part(p), sums(p)});
    });
    ReduceScatter<Gradient, Out> call(pieces.span(), bucket_tag("gradients of bucket", *sharding_, b, step), scale,
                                      std::as_writable_bytes(workspace_.span()));
    call.group_size = sharding_->groups().size;
    call.carry = carry;
    events_[to_size(b)] = queue_->post(call, executor_->record());
  }

  void continue_sum(int b, int pass, index_t step) {
    Carry carry{.stride = level_elements_, .before = step_.before(pass), .last = pass == last_pass_};
    if (step_.in_pass(pass) < step_.world) carry.leaves = step_.in_pass(pass);
    const auto out = [&](int p) { return carry.last ? own(p) : std::span<Reduction>{}; };
    const auto sums = [&](int p) { return last_pass_ > 0 ? level(p, 0).data() : nullptr; };
    post<Reduction>(b, out, sums, mean_.scale, carry, step);  // the queue runs calls in order, so nothing is waited for
  }

  void add_pass(int b, int pass, index_t step) {
    if (pass > 0) merge(b, pass - 1);
    const int l = std::countr_one(static_cast<unsigned>(pass));
    post<float>(b, [this, l](int p) { return level(p, l); }, no_sums, 1, {}, step);
  }

  Reduction* sums_data() const noexcept {
    if constexpr (in_place)
      return gradients_.all().data();
    else
      return reduced_.data();
  }

  std::span<Reduction> own(int p) const noexcept { return sums().owned_span(p); }

  std::span<float> level(int p, int l) const noexcept {
    return PartialSums(*sharding_, sharding_->trainable(), rank_, partial_.data() + l * level_elements_).owned_span(p);
  }

  // Adds level l of each piece of bucket `b` to level `to`.
  void add_level(int b, int l, int to) {
    for_each_piece(b, [&](int, int p) {
      const std::span<float> older = level(p, l);
      executor_->for_each(std::ssize(older), AddOlder{older.data(), level(p, to).data()});
    });
  }

  void merge(int b, int pass) {
    wait(b);
    const int filled = std::countr_one(static_cast<unsigned>(pass));
    for (int l = 0; l < filled; ++l) add_level(b, l, filled);
  }

  // Folds the levels that are filled after the last pass, from the last block to the first.
  void fold(int b) {
    const int passes = last_pass_ + 1;
    const int first = std::countr_zero(static_cast<unsigned>(passes));
    for (int l = first + 1; passes >> l; ++l)
      if ((passes >> l) & 1) add_level(b, l, first);
    for_each_piece(b, [&](int, int p) {
      const std::span<float> sum = level(p, first);
      executor_->for_each(std::ssize(sum), Round<Reduction>{sum.data(), own(p).data(), mean_.scale});
    });
  }

  // If several ranks update the same elements, gathers the parts of the sum on all of them, after the reduction on the
  // same queue.
  void share(int b, index_t step) {
    if constexpr (Stage::state.extent != Extent::world) {
      const BucketPieces<Reduction> pieces = owned_to_held(*sharding_, sums(), b);
      AllGather gather(pieces.span(), bucket_tag("reduced gradients of bucket", *sharding_, b, step));
      among_owners<Stage::state>(gather, *sharding_);
      events_[to_size(b)] = queue_->post(gather, executor_->record());
      if constexpr (in_place) gradients_.sent(b, events_[to_size(b)]);
    }
  }

  const Sharding* sharding_;
  int rank_;
  Executor* executor_;
  Queue* queue_;
  layout::MicroBatches step_;
  int last_pass_ = 0;
  Mean mean_;
  bool adding_ = false;  // this pass is accumulated onto earlier ones
  Gradients gradients_;
  GradientCheck<Executor, Gradient> check_;
  Storage<Executor, Reduction> reduced_;
  Storage<Executor, float> partial_;
  index_t level_elements_;
  Storage<Executor, Gradient> workspace_;
  core::List<Event> events_;
};

}  // namespace tessera::engine
