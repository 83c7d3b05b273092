// Parameters that are sharded, over the world or over groups of ranks: a rank holds its shard, and a fixed pool of slots
// in which buckets are gathered as they are used, the next ones ahead of time. They stay until their slot is needed or
// the weights change. Where the state is sharded over more ranks, the update gathers the shard among peers before.
//
//     shard    | part of bucket 0 | part of bucket 1 | ... | frozen part of bucket 0 | ...
//     slot     | a bucket's trainable range, whole |.| its frozen range, whole |
#pragma once

#include <span>
#include <string>
#include <utility>

#include <tessera/comm/communicator.hpp>
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
        trainable_(sharding.trainable(), rank, shard_.data()),
        frozen_(sharding.frozen(), rank, shard_.data() + sharding.trainable().shard_elements(where.extent)),
        gathered_(executor, plan.gathered_buckets),
        slot_elements_(plan.gathered_buckets.elements),
        pool_(sharding, plan.gathered_buckets.copies, options.prefetch) {}

  /// The unit's bucket, gathered; posts the next ones. Throws UsageError, before it posts the bucket's gather, if
  /// Weights are alive in a slot that the schedule needs now.
  Weights<Parameter> gather(Unit unit) {
    const Layout& layout = sharding_->layout();
    Slot& slot = pool_.gather(unit, [&](Slot& free) { post_gather(free); });
    executor_->wait(slot.ready);
    const Parameter* base = room(slot);
    const layout::Bucket& bucket = sharding_->bucket(slot.bucket);
    return {{layout, unit, base + (layout.trainable(unit).begin - bucket.trainable.begin),
             base + frozen_begin(bucket) + (layout.frozen(unit).begin - bucket.frozen.begin)},
            &slot.leases};
  }

  /// A flat layout's range, which no slot holds.
  std::span<const Parameter> gather(Range) {
    throw UsageError("gather(begin, end) needs whole parameters: stages 0 to 2");
  }

  /// All that this rank holds of them.
  std::span<const Parameter> shard() const noexcept { return shard_.span(); }

  void begin_forward() noexcept { pool_.set_direction(1); }
  void begin_backward() noexcept { pool_.set_direction(-1); }

  /// Drops the queue, and forgets what was gathered and how far this rank had come. What the last update gathers is
  /// nowhere else, so it is waited for before: every rank that applies a step posts it.
  void drop() noexcept {
    try {
      executor_->wait(std::exchange(published_, {}));
    } catch (const Error&) {  // a rank failed: there is nothing to go on from
    }
    queue_->drop();
    pool_.drop();
  }

  /// Posts gathers whose slots were in use and are free by now. Others wait for them, so it is called before whatever
  /// else is posted.
  void post_unblocked() {
    pool_.post_unblocked([&](Slot& free) { post_gather(free); });
  }
  /// The same. Throws UsageError if a slot is still in use.
  void post_all() {
    pool_.post_all([&](Slot& free) { post_gather(free); });
  }

  /// Waits for every gather of this rank. What came stays.
  void finish() {
    post_all();
    for (Slot& slot : pool_) {
      executor_->wait(slot.ready);
      slot.ready = {};
    }
    executor_->wait(std::exchange(published_, {}));
  }

  /// Peers read this rank's shard until the gathers have ended: only then may it be written. What came is then of no
  /// use.
  void before_update() {
    finish();
    pool_.expire();
  }

  /// What is held here is complete when the gathers of the last update have ended.
  void before_read() { executor_->wait(published_); }

  /// This rank's shard of both spaces: the update writes the trainable ones.
  const Array& trainable() const noexcept { return trainable_; }
  const Array& frozen() const noexcept { return frozen_; }

  /// Calls visit(slice) for the slices of all parameters (engine/memory/tensor_slice.hpp).
  template <bool to_write, class Visit>
  void for_each_slice(bool owned_only, Visit& visit) const {
    tessera::engine::for_each_slice<to_write>(*sharding_, false, owned_only, "parameter", trainable_, visit);
    tessera::engine::for_each_slice<to_write>(*sharding_, true, owned_only, "parameter", frozen_, visit);
  }

  /// Sends what this rank updated of bucket `b`, if it holds more, to the peers that hold it too, and brings in theirs.
  void publish(int b, index_t step) {
    if constexpr (where.extent != of_state.extent) {
      if (sharding_->trainable().range(b).empty()) return;
      AllGather gather(std::span<const Parameter>(trainable_.owned_span(b)), trainable_.held_span(b),
                       sharding_->trainable().part(b), bucket_tag("updated parameters of bucket", *sharding_, b, step));
      among_owners<where>(gather, *sharding_);
      published_ = queue_->post(gather, executor_->record());
    }
  }

 private:
  using Pool = GatheredPool<typename Executor::Event>;
  using Slot = typename Pool::Slot;

  static index_t frozen_begin(const layout::Bucket& bucket) { return round_up(bucket.trainable.size(), block); }

  Parameter* room(const Slot& slot) noexcept { return gathered_.data() + pool_.index(slot) * slot_elements_; }

  // The slot was last read by compute that is already issued; `record` orders the gather after it. An earlier gather
  // into the same slot, whose weights nobody asked for, precedes this one on the same queue; a bucket without elements
  // keeps its event, which an update must wait for.
  void post_gather(Slot& slot) {
    const int b = slot.bucket;
    const layout::Bucket& bucket = sharding_->bucket(b);
    Parameter* base = room(slot);
    const auto all_gather = [&](std::span<const Parameter> mine, const layout::Partition& of, Parameter* to, const char* what) {
      const Range range = of.range(b);
      if (range.empty()) return;
      const std::span<Parameter> out(to, to_size(range.size()));
      AllGather gather(mine, out, of.part(b, where.extent), bucket_tag(what, *sharding_, b, 0));
      if constexpr (where.extent == Extent::group) {
        gather.over = Ranks::group;
        gather.group_size = sharding_->groups().size;
      }
      slot.ready = queue_->post(gather, executor_->record());
    };
    all_gather(trainable_.held_span(b), sharding_->trainable(), base, "parameters of bucket");
    all_gather(frozen_.held_span(b), sharding_->frozen(), base + frozen_begin(bucket), "frozen parameters of bucket");
  }

  const Sharding* sharding_;
  Executor* executor_;
  Queue* queue_;
  Storage<Executor, Parameter> shard_;
  Array trainable_;
  Array frozen_;
  Storage<Executor, Parameter> gathered_;
  index_t slot_elements_;
  Pool pool_;
  typename Executor::Event published_{};  // of the last update's last gather, behind all the others on its queue
};

}  // namespace tessera::engine
