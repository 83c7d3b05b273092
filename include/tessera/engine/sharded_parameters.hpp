// Parameters of stage 3: a rank holds its shard, and a fixed pool of slots in which buckets are gathered as they are
// used, the next ones in the direction of travel ahead of time.
//
//     shard    | part of bucket 0 | part of bucket 1 | ... | frozen part of bucket 0 | ...
//     slot     | a bucket's trainable range, whole |.| its frozen range, whole |
#pragma once

#include <span>
#include <string>

#include <tessera/comm/communicator.hpp>
#include <tessera/engine/bucket_tag.hpp>
#include <tessera/engine/gathered_pool.hpp>
#include <tessera/engine/storage.hpp>
#include <tessera/engine/views.hpp>

namespace tessera {

template <class Comm, class Parameter>
class ShardedParameters {
 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;

  ShardedParameters(const Sharding& sharding, int rank, Executor& executor, Queue& queue, const Plan& plan,
                    const Options& options, std::span<Parameter> of_caller)
      : sharding_(&sharding),
        rank_(rank),
        executor_(&executor),
        queue_(&queue),
        shard_(executor, plan.parameters, of_caller),
        gathered_(executor, plan.gathered_buckets),
        slot_elements_(plan.gathered_buckets.elements),
        pool_(plan.gathered_buckets.copies, sharding.buckets(), options.prefetch) {}

  /// The unit's bucket, gathered; posts the next ones. Throws UsageError if every slot is still looked at.
  Weights<Parameter> gather(Unit unit) {
    const Layout& layout = sharding_->layout();
    const int b = sharding_->bucket_of(unit);
    Slot& slot = demand(b, unit);
    const Parameter* base = room(slot);
    const Bucket& bucket = sharding_->bucket(b);
    Weights<Parameter> weights{{layout, unit, base + (layout.trainable(unit).begin - bucket.trainable.begin),
                                base + frozen_begin(bucket) + (layout.frozen(unit).begin - bucket.frozen.begin)},
                               &slot.leases};
    // A tied unit is a side glance: it does not move the window that travels with the model.
    if (!layout.tied(at_work_, unit)) {
      at_work_ = unit;
      pool_.move_to(b, [&](Slot& next) { fetch(next); });
    }
    executor_->wait(slot.ready);
    return weights;
  }

  /// A flat layout's range, which no slot holds.
  std::span<const Parameter> gather(Range) {
    throw UsageError("gather(begin, end) needs whole parameters: stages 0 to 2");
  }

  void begin_forward() { pool_.turn(1); }
  void begin_backward() { pool_.turn(-1); }

  /// Forgets what was gathered.
  void drop() noexcept { pool_.drop(); }

  /// Peers read this rank's shard until the gathers have ended: only then may it be written.
  void before_update() {
    for (const Slot& slot : pool_) executor_->wait(slot.ready);
    drop();
  }

  /// Where the element at `place` of the trainable space lies, which must be in held(b).
  Parameter* at(int b, index_t place) noexcept {
    return shard_.data() + sharding_->trainable().shard_begin(b) + (place - held(b).begin);
  }
  Range held(int b) const { return sharding_->trainable().owned(b, rank_); }
  Range held_frozen(int b) const { return sharding_->frozen().owned(b, rank_); }
  Parameter* at_frozen(int b, index_t place) noexcept { return frozen_part(b) + (place - held_frozen(b).begin); }

  /// Nothing to send: the next forward gathers.
  void publish(int, index_t) noexcept {}

 private:
  using Pool = GatheredPool<typename Executor::Event>;
  using Slot = typename Pool::Slot;

  static index_t frozen_begin(const Bucket& bucket) { return round_up(bucket.trainable.size(), block); }

  Parameter* frozen_part(int b) noexcept {
    return shard_.data() + sharding_->trainable().shard_elements() + sharding_->frozen().shard_begin(b);
  }

  Parameter* room(const Slot& slot) noexcept { return gathered_.data() + pool_.index(slot) * slot_elements_; }

  Slot& demand(int b, Unit unit) {
    Slot* const slot = pool_.demand(b, [&](Slot& free) { fetch(free); });
    if (!slot)
      throw UsageError(
          message({"gather('", sharding_->layout().name(unit), "'): all ", pool_.size(),
                   " slots for gathered units are still looked at: let earlier weights go out of scope, or raise "
                   "Options::prefetch"}));
    return *slot;
  }

  // The slot was last read by compute that is already issued; `record` orders the gather behind it. An earlier gather
  // into the same slot, never looked at, lies before this one on the same queue; a bucket without elements keeps its
  // event, which an update must wait for.
  void fetch(Slot& slot) {
    const int b = slot.bucket;
    const Bucket& bucket = sharding_->bucket(b);
    Parameter* base = room(slot);
    const auto all_gather = [&](const Parameter* mine, const Partition& of, Range own, Parameter* to,
                                const char* what) {
      const Range range = of.range(b);
      if (range.empty()) return;
      slot.ready = queue_->all_gather(std::span<const Parameter>(mine, to_size(own.size())),
                                      std::span<Parameter>(to, to_size(range.size())), of.part(b),
                                      bucket_tag(what, *sharding_, b, 0), executor_->record());
    };
    all_gather(shard_.data() + sharding_->trainable().shard_begin(b), sharding_->trainable(), held(b), base,
               "parameters of bucket");
    all_gather(frozen_part(b), sharding_->frozen(), held_frozen(b), base + frozen_begin(bucket),
               "frozen parameters of bucket");
  }

  const Sharding* sharding_;
  int rank_;
  Executor* executor_;
  Queue* queue_;
  Storage<Executor, Parameter> shard_;
  Storage<Executor, Parameter> gathered_;
  index_t slot_elements_;
  Pool pool_;
  Unit at_work_{-1};
};

}  // namespace tessera
