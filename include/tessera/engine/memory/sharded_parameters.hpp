// Parameters that are sharded over the world or over groups of ranks. A rank holds its shard and a fixed pool of slots,
// into which buckets are gathered before they are used. A gathered bucket stays until its slot is needed or the weights
// change. If the state is sharded over more ranks, an update first gathers the shard over peers.
//
//     shard    | part of bucket 0 | part of bucket 1 | ... | frozen part of bucket 0 | ...      (layout/sharding.hpp)
//     slot     | whole trainable piece of a bucket |.| its whole frozen piece |
#pragma once

#include <span>
#include <string>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/engine/memory/bucket_pieces.hpp>
#include <tessera/engine/memory/bucket_tag.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/engine/memory/gathered_pool.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/engine/memory/tensor_slice.hpp>
#include <tessera/engine/memory/views.hpp>

namespace tessera::engine {

template <class Comm, class Parameter, Placement where, Placement of_state>
class ShardedParameters {
 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;
  using Array = FlatArray<Parameter, where>;

  ShardedParameters(const Sharding& sharding, int rank, Executor& executor, Queue& queue, const Plan& plan,
                    const Options& options, std::span<Parameter> of_caller)
      : sharding_(&sharding),
        executor_(&executor),
        queue_(&queue),
        shard_(executor, plan.parameters, of_caller),
        array_(sharding, sharding.all_spaces(), rank, shard_.data()),
        gathered_(executor, plan.gathered_buckets),
        slot_elements_(plan.gathered_buckets.elements),
        pool_(sharding, plan.gathered_buckets.copies, options.prefetch) {}

  /// The unit's parameters, gathered. Also posts the next gathers. Throws UsageError, before it posts the bucket's
  /// gather, if Weights are alive in a slot that the schedule needs now.
  Weights<Parameter> gather(Unit unit) {
    const Layout& layout = sharding_->layout();
    Slot& slot = pool_.gather(unit, [&](Slot& free) { post_gather(free); });
    executor_->wait(slot.ready);
    typename UnitView<const Parameter>::Addresses addresses{};
    for (int s = 0; s < layout.spaces(); ++s)
      addresses[to_size(s)] = room(slot, s) + (layout.range(unit, s).begin - sharding_->range(slot.bucket, s).begin);
    return {{layout, unit, addresses}, &slot.leases};
  }

  /// Throws UsageError: a range of a flat layout cannot be gathered into a slot.
  std::span<const Parameter> gather(Range) {
    throw UsageError("gather(begin, end) needs whole parameters: stages 0 to 2");
  }

  /// All parameters that this rank holds.
  std::span<const Parameter> shard() const noexcept { return shard_.span(); }

  void begin_forward() noexcept { pool_.set_direction(1); }
  void begin_backward() noexcept { pool_.set_direction(-1); }

  /// Drops the queue and resets the pool. First waits for the gathers of the last update, which every rank that applied
  /// the step has posted, because no other copy of those parameters exists.
  void drop() noexcept {
    try {
      executor_->wait(std::exchange(published_, {}));
    } catch (const Error&) {  // a rank failed, so training cannot continue
    }
    queue_->drop();
    pool_.drop();
  }

  /// Posts gathers whose slots were in use and are free now. Called before anything else is posted, because other ranks
  /// wait for these gathers.
  void post_unblocked() {
    pool_.post_unblocked([&](Slot& free) { post_gather(free); });
  }
  /// The same. Throws UsageError if a slot is still in use.
  void post_all() {
    pool_.post_all([&](Slot& free) { post_gather(free); });
  }

  /// Waits for every gather of this rank. Gathered buckets stay valid.
  void finish() {
    post_all();
    for (Slot& slot : pool_) {
      executor_->wait(slot.ready);
      slot.ready = {};
    }
    executor_->wait(std::exchange(published_, {}));
  }

  /// Waits for all gathers, because other ranks read this rank's shard until then, and invalidates gathered buckets.
  void before_update() {
    finish();
    pool_.expire();
  }

  /// Waits for the gathers of the last update, because the shard is complete only then.
  void before_read() { executor_->wait(published_); }

  /// This rank's shard of all parameters. The update writes the trainable ones.
  const Array& array() const noexcept { return array_; }

  /// Calls visit(slice) for the slices of all parameters (engine/memory/tensor_slice.hpp).
  template <bool to_write, class Visit>
  void for_each_slice(bool owned_only, Visit& visit) const {
    tessera::engine::for_each_slice<to_write>(*sharding_, owned_only, "parameter", array_, visit);
  }

  /// Posts the gather of the updated parts of bucket `b` over peers, if this rank holds more than it updates.
  void publish(int b, index_t step) {
    if constexpr (where.extent != of_state.extent) {
      const BucketPieces<Parameter> pieces = owned_to_held(*sharding_, array_, b);
      if (pieces.empty()) return;
      AllGather gather(pieces.span(), bucket_tag("updated parameters of bucket", *sharding_, b, step));
      among_owners<where>(gather, *sharding_);
      published_ = queue_->post(gather, executor_->record());
    }
  }

 private:
  using Pool = GatheredPool<typename Executor::Event>;
  using Slot = typename Pool::Slot;

  // The memory of the slot's bucket's piece in a space.
  Parameter* room(const Slot& slot, int space) noexcept {
    return gathered_.data() + pool_.index(slot) * slot_elements_ + sharding_->begin_in_bucket(slot.bucket, space);
  }

  // Compute that last read the slot is already enqueued; `record` orders the gather after it. An earlier gather into
  // the slot, whose weights were not used, precedes this one on the same queue. A bucket without elements does not
  // change the slot's event, because an update must still wait for that earlier gather.
  void post_gather(Slot& slot) {
    const int b = slot.bucket;
    BucketPieces<Parameter> pieces;
    for (int s = 0; s < sharding_->layout().spaces(); ++s) {
      const int p = sharding_->piece(b, s);
      const index_t n = sharding_->range(b, s).size();
      pieces.add(n, {array_.held_span(p), {room(slot, s), to_size(n)}, sharding_->partition().part(p, where.extent)});
    }
    if (pieces.empty()) return;
    AllGather gather(pieces.span(), bucket_tag("parameters of bucket", *sharding_, b, 0));
    if constexpr (where.extent == Extent::group) {
      gather.over = Ranks::group;
      gather.group_size = sharding_->groups().size;
    }
    slot.ready = queue_->post(gather, executor_->record());
  }

  const Sharding* sharding_;
  Executor* executor_;
  Queue* queue_;
  Storage<Executor, Parameter> shard_;
  Array array_;
  Storage<Executor, Parameter> gathered_;
  index_t slot_elements_;
  Pool pool_;
  typename Executor::Event published_{};  // of the last update's last gather, which follows all others on its queue
};

}  // namespace tessera::engine
