// Parameters of stage 3: a rank holds its shard, and a fixed pool of slots in which buckets are gathered as they are
// used, the next ones in the direction of travel ahead of time.
//
//     shard    | part of bucket 0 | part of bucket 1 | ... | frozen part of bucket 0 | ...
//     slot     | a bucket's trainable range, whole |.| its frozen range, whole |
#pragma once

#include <span>
#include <string>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/list.hpp>
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
        prefetch_(min(options.prefetch, sharding.buckets())),
        shard_(executor, plan.parameters, of_caller),
        pool_(executor, plan.gathered_buckets),
        slot_elements_(plan.gathered_buckets.elements),
        slots_(plan.gathered_buckets.copies) {}

  /// The unit's bucket, gathered; posts the next ones. Throws UsageError if every slot is still looked at.
  Weights<Parameter> gather(Unit unit) {
    const Layout& layout = sharding_->layout();
    const int b = sharding_->bucket_of(unit);
    Slot& slot = demand(b, unit);
    const Parameter* base = pool_.data() + (&slot - slots_.data()) * slot_elements_;
    const Bucket& bucket = sharding_->bucket(b);
    Weights<Parameter> weights{{layout, unit, base + (layout.trainable(unit).begin - bucket.trainable.begin),
                                base + frozen_begin(bucket) + (layout.frozen(unit).begin - bucket.frozen.begin)},
                               &slot.leases};
    // A tied unit is a side glance: it does not move the window that travels with the model.
    if (!layout.tied(at_work_, unit)) {
      at_work_ = unit;
      cursor_ = b;
      prefetch();
    }
    executor_->wait(slot.ready);
    return weights;
  }

  /// A flat layout's range, which no slot holds.
  std::span<const Parameter> gather(Range) {
    throw UsageError("gather(begin, end) needs whole parameters: stages 0 to 2");
  }

  void begin_forward() { turn(1); }
  void begin_backward() { turn(-1); }

  /// Forgets what was gathered; slots still looked at are free when the last look ends.
  void drop() noexcept {
    for (Slot& slot : slots_) slot = {-1, slot.leases, {}};
  }

  /// Peers read this rank's shard until the gathers have ended: only then may it be written.
  void before_update() {
    for (Slot& slot : slots_) executor_->wait(slot.ready);
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
  struct Slot {
    int bucket = -1;
    int leases = 0;
    typename Executor::Event ready;
  };

  static index_t frozen_begin(const Bucket& bucket) { return round_up(bucket.trainable.size(), block); }

  Parameter* frozen_part(int b) noexcept {
    return shard_.data() + sharding_->trainable().shard_elements() + sharding_->frozen().shard_begin(b);
  }

  void turn(int direction) {
    direction_ = direction;
    for (Slot& slot : slots_)
      if (slot.leases == 0) slot.bucket = -1;
  }

  bool in_window(int b) const {
    const int ahead = (b - cursor_) * direction_;
    return b >= 0 && ahead >= 0 && ahead <= prefetch_;
  }

  Slot* find(int b) {
    for (Slot& slot : slots_)
      if (slot.bucket == b) return &slot;
    return nullptr;
  }

  // The least missed slot that nobody looks at: an empty one, then one behind the window, then (only on demand) the
  // prefetched.
  Slot* spare(bool on_demand) {
    Slot* best = nullptr;
    int best_loss = on_demand ? 3 : 2;
    for (Slot& slot : slots_) {
      const int loss = slot.leases > 0 ? 3 : slot.bucket < 0 ? 0 : in_window(slot.bucket) ? 2 : 1;
      if (loss < best_loss) best_loss = loss, best = &slot;
    }
    return best;
  }

  Slot& demand(int b, Unit unit) {
    if (Slot* slot = find(b)) return *slot;
    Slot* slot = spare(true);
    if (!slot)
      throw UsageError(
          message({"gather('", sharding_->layout().name(unit), "'): all ", slots_.size(),
                   " slots for gathered units are still looked at: let earlier weights go out of scope, or raise "
                   "Options::prefetch"}));
    fetch(*slot, b);
    return *slot;
  }

  void prefetch() {
    for (int ahead = 1; ahead <= prefetch_; ++ahead) {
      const int b = cursor_ + ahead * direction_;
      if (b < 0 || b >= sharding_->buckets() || find(b)) continue;
      Slot* slot = spare(false);
      if (!slot) return;
      fetch(*slot, b);
    }
  }

  // The slot was last read by compute that is already issued; `record` orders the gather behind it. An earlier gather
  // into the same slot, never looked at, lies before this one on the same queue; a bucket without elements keeps its
  // event, which an update must wait for.
  void fetch(Slot& slot, int b) {
    const Bucket& bucket = sharding_->bucket(b);
    Parameter* base = pool_.data() + (&slot - slots_.data()) * slot_elements_;
    slot.bucket = b;
    const auto all_gather = [&](const Parameter* mine, const Partition& of, Range own, Parameter* to,
                                const char* what) {
      const Range range = of.range(b);
      if (range.empty()) return;
      slot.ready =
          queue_->all_gather(std::span<const Parameter>(mine, own.size()), std::span<Parameter>(to, range.size()),
                             of.part(b), Tag{what, b, 0}, executor_->record());
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
  int prefetch_;
  Storage<Executor, Parameter> shard_;
  Storage<Executor, Parameter> pool_;
  index_t slot_elements_;
  List<Slot> slots_;
  Unit at_work_{-1};
  int cursor_ = 0;
  int direction_ = 1;
};

}  // namespace tessera
