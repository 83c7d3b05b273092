// Parameters of stages 0 to 2: every rank holds them whole. Where the state is sharded, a rank updates its own part and
// gathers the others', bucket by bucket, while the next forward begins.
#pragma once

#include <span>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/bucket_tag.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/engine/memory/views.hpp>

namespace tessera {

template <class Comm, class Parameter, bool shards_state>
class WholeParameters {
 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;

  WholeParameters(const Sharding& sharding, int rank, Executor& executor, Queue& queue, const Plan& plan,
                  const Options&, std::span<Parameter> of_caller)
      : sharding_(&sharding),
        rank_(rank),
        executor_(&executor),
        queue_(&queue),
        storage_(executor, plan.parameters, of_caller),
        gathered_(to_size(sharding.buckets())) {}

  /// Waits until what the last step made of the unit has come from all ranks.
  Weights<Parameter> gather(Unit unit) {
    const Layout& layout = sharding_->layout();
    executor_->wait(gathered_[to_size(sharding_->bucket_of(unit))]);
    const Parameter* whole = storage_.data();
    return {
        {layout, unit, whole + layout.trainable(unit).begin, whole + layout.frozen_begin() + layout.frozen(unit).begin},
        nullptr};
  }

  /// The same by range, for a flat layout.
  std::span<const Parameter> gather(Range range) {
    for (const int b : sharding_->buckets_of(range)) executor_->wait(gathered_[to_size(b)]);
    return std::span<const Parameter>(storage_.span()).subspan(to_size(range.begin), to_size(range.size()));
  }

  /// The tensor, when what the last step made of it has come.
  std::span<const Parameter> tensor(Tensor t) {
    const Layout& layout = sharding_->layout();
    executor_->wait(gathered_[to_size(sharding_->bucket_of(layout.unit_of(t)))]);
    return std::span<const Parameter>(storage_.span()).subspan(to_size(layout.offset(t)), to_size(layout.elements(t)));
  }

  void begin_forward() noexcept {}
  void begin_backward() noexcept {}
  void drop() noexcept {}
  void post_unblocked() noexcept {}
  void post_all() noexcept {}

  /// Waits for every gather of the last step.
  void finish() {
    for (auto& event : gathered_) {
      executor_->wait(event);
      event = {};
    }
  }

  /// Peers read this rank's parts until the gathers of the last step have ended: only then may they be written.
  void before_update() { finish(); }

  /// Where the update writes the element at `place` of the trainable space.
  Parameter* at(int, index_t place) noexcept { return storage_.data() + place; }
  /// All of the frozen space that this rank holds of bucket `b`, and where it lies.
  Range held_frozen(int b) const { return sharding_->bucket(b).frozen; }
  Parameter* at_frozen(int, index_t place) noexcept {
    return storage_.data() + sharding_->layout().frozen_begin() + place;
  }
  Range held(int b) const { return sharding_->bucket(b).trainable; }

  /// Sends this rank's updated part of bucket `b` and brings in the others'.
  void publish(int b, index_t step) {
    if constexpr (shards_state) {
      const Range range = sharding_->trainable().range(b);
      if (range.empty()) return;
      const Range own = sharding_->trainable().owned(b, rank_);
      const std::span<Parameter> all = storage_.span().subspan(to_size(range.begin), to_size(range.size()));
      const std::span<const Parameter> mine = all.subspan(to_size(own.begin - range.begin), to_size(own.size()));
      gathered_[to_size(b)] = queue_->post(
          AllGather(mine, all, sharding_->trainable().part(b), bucket_tag("parameters of bucket", *sharding_, b, step)),
          executor_->record());
    }
  }

 private:
  const Sharding* sharding_;
  int rank_;
  Executor* executor_;
  Queue* queue_;
  Storage<Executor, Parameter> storage_;
  std::vector<typename Executor::Event> gathered_;
};

}  // namespace tessera
