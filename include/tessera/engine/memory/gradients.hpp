// The memory in which backward writes gradients: the flat space (stages 0 and 1), or a few slots of one bucket each,
// which are reused after the bucket's reduction has read them (stages 2 and 3).
#pragma once

#include <span>
#include <string>

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/engine/memory/gradient_slots.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/engine/memory/views.hpp>

namespace tessera::engine {

/// The whole gradient buffer: stages 0 and 1.
template <class Executor, class Gradient>
class WholeGradients {
 public:
  using Event = typename Executor::Event;
  using Array = FlatArray<Gradient, placement::replicated>;

  WholeGradients(const Sharding& sharding, int rank, Executor& executor, const Plan& plan,
                 std::span<Gradient> of_caller)
      : executor_(&executor),
        storage_(executor, plan.gradients, of_caller),
        sharding_(&sharding),
        array_(sharding, sharding.trainable(), rank, storage_.data()),
        sent_(to_size(sharding.buckets())) {}

  /// Makes the memory of bucket `b` safe to write: waits until other ranks have read the gradients of the last pass.
  void open(int b, Unit) { executor_->wait(sent_[to_size(b)]); }
  /// The memory of the piece of bucket `b` in a space.
  Gradient* at(int b, int space) const noexcept {
    return array_.at(sharding_->piece(b, space), sharding_->range(b, space).begin);
  }
  void sent(int b, const Event& reduced) { sent_[to_size(b)] = reduced; }
  void settle() { sent_.fill(Event{}); }
  void drop() { settle(); }

  std::span<Gradient> all() const noexcept { return storage_.span(); }
  const Array& array() const noexcept { return array_; }

 private:
  Executor* executor_;
  Storage<Executor, Gradient> storage_;
  const Sharding* sharding_;
  Array array_;
  core::List<Event> sent_;
};

/// One slot for each bucket that backward fills or whose reduction is in flight: stages 2 and 3.
template <class Executor, class Gradient>
class SlottedGradients {
 public:
  using Event = typename Executor::Event;

  SlottedGradients(const Sharding& sharding, int, Executor& executor, const Plan& plan, std::span<Gradient>)
      : sharding_(&sharding),
        executor_(&executor),
        storage_(executor, plan.gradient_slots),
        slot_elements_(plan.gradient_slots.elements),
        slots_(plan.gradient_slots.copies, sharding.buckets()) {}

  /// Gives bucket `b` a slot with undefined content, unless it has one, after waiting for the slot's last reduction.
  /// Throws UsageError if the order of backward needs more slots.
  void open(int b, Unit unit) {
    if (slots_.find(b) || sharding_->empty(b, sharding_->trainable())) return;  // an empty one is never reduced
    Slot* const slot = slots_.take(b);
    if (!slot) refuse(unit);
    executor_->wait(slot->reduced);
  }
  /// The memory of the piece of bucket `b` in a space; null if the bucket has no slot.
  Gradient* at(int b, int space) noexcept {
    const Slot* const slot = slots_.find(b);
    return slot ? room(*slot) + sharding_->begin_in_bucket(b, space) : nullptr;
  }

  void sent(int b, const Event& reduced) { slots_.send(b, reduced); }

  /// Called after all reductions were waited for.
  void settle() {
    for (Slot& slot : slots_) slot.reduced = {};
  }
  void drop() { slots_.reset(); }

 private:
  using Slot = typename GradientSlots<Event>::Slot;

  Gradient* room(const Slot& slot) const noexcept { return storage_.data() + slots_.index(slot) * slot_elements_; }

  [[noreturn]] void refuse(Unit unit) const {
    std::string held;
    for (const Slot& slot : slots_)
      held += message({held.empty() ? "'" : ", '",
                       sharding_->layout().name(Unit{sharding_->bucket(slot.bucket).last_unit - 1}), "'"});
    throw UsageError(message({"gradients('", sharding_->layout().name(unit), "'): all ", slots_.end() - slots_.begin(),
                              " gradient slots are held by buckets that cannot depart yet (", held,
                              "): buckets depart last unit first, so run backward in the order of layout.backward()"}));
  }

  const Sharding* sharding_;
  Executor* executor_;
  Storage<Executor, Gradient> storage_;
  index_t slot_elements_;
  GradientSlots<Event> slots_;
};

}  // namespace tessera::engine
