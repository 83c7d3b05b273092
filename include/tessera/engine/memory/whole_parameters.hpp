// Parameters at stages 0 to 2: every rank holds all of them. If the state is sharded, a rank updates its own part and
// gathers the other parts, bucket by bucket, while the next forward starts.
#pragma once

#include <span>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/bucket_pieces.hpp>
#include <tessera/engine/memory/bucket_tag.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/engine/memory/tensor_slice.hpp>
#include <tessera/engine/memory/views.hpp>

namespace tessera::engine {

template <class Comm, class Parameter, bool shards_state>
class WholeParameters {
 public:
  using Executor = typename Comm::Executor;
  using Queue = typename Comm::Queue;
  using Array = FlatArray<Parameter, placement::replicated>;

  WholeParameters(const Sharding& sharding, int rank, Executor& executor, Queue& queue, const Plan& plan,
                  const Options&, std::span<Parameter> of_caller)
      : sharding_(&sharding),
        executor_(&executor),
        queue_(&queue),
        storage_(executor, plan.parameters, of_caller),
        array_(sharding, sharding.all_spaces(), rank, storage_.data()),
        gathered_(to_size(sharding.buckets())) {}

  /// Waits until the unit's parameters of the last step have arrived from all ranks.
  Weights<Parameter> gather(Unit unit) {
    const Layout& layout = sharding_->layout();
    const int b = sharding_->bucket_of(unit);
    executor_->wait(gathered_[to_size(b)]);
    typename UnitView<const Parameter>::Addresses addresses{};
    for (int s = 0; s < layout.spaces(); ++s)
      addresses[to_size(s)] = array_.at(sharding_->piece(b, s), layout.range(unit, s).begin);
    return {{layout, unit, addresses}, nullptr};
  }

  /// The same for a range of a flat layout.
  std::span<const Parameter> gather(Range range) {
    for (const int b : sharding_->buckets_of(range)) executor_->wait(gathered_[to_size(b)]);
    return array_.span(range);
  }

  /// The same for a tensor.
  std::span<const Parameter> tensor(Tensor t) {
    const Layout& layout = sharding_->layout();
    executor_->wait(gathered_[to_size(sharding_->bucket_of(layout.unit_of(t)))]);
    return array_.span(layout.place(t));
  }

  void begin_forward() noexcept {}
  void begin_backward() noexcept {}
  void drop() noexcept {}  // the only gathers are those of an update, which must complete
  void post_unblocked() noexcept {}
  void post_all() noexcept {}

  /// Waits for every gather of the last step.
  void finish() {
    for (auto& event : gathered_) {
      executor_->wait(event);
      event = {};
    }
  }

  /// Waits for the gathers of the last step, because other ranks read this rank's parts until then.
  void before_update() { finish(); }

  /// Waits for the gathers of the last step, because the parameters are complete only then.
  void before_read() { finish(); }

  /// All parameters. The update writes the trainable ones.
  const Array& array() const noexcept { return array_; }

  /// Calls visit(slice) for the slices of all parameters (engine/memory/tensor_slice.hpp).
  template <bool to_write, class Visit>
  void for_each_slice(bool owned_only, Visit& visit) const {
    tessera::engine::for_each_slice<to_write>(*sharding_, owned_only, "parameter", array_, visit);
  }

  /// Posts the gather of the updated parts of bucket `b`.
  void publish(int b, index_t step) {
    if constexpr (shards_state) {
      const BucketPieces<Parameter> pieces = owned_to_held(*sharding_, array_, b);
      if (pieces.empty()) return;
      gathered_[to_size(b)] =
          queue_->post(AllGather(pieces.span(), bucket_tag("parameters of bucket", *sharding_, b, step)),
                       executor_->record());
    }
  }

 private:
  const Sharding* sharding_;
  Executor* executor_;
  Queue* queue_;
  Storage<Executor, Parameter> storage_;
  Array array_;
  core::List<typename Executor::Event> gathered_;
};

}  // namespace tessera::engine
