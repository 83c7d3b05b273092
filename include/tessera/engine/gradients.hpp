// Where backward writes gradients: the flat space (stages 0 and 1), or a few slots, each a bucket's room, that are
// handed on as soon as the bucket's reduction has read them (stages 2 and 3).
#pragma once

#include <span>
#include <string>

#include <tessera/core/list.hpp>
#include <tessera/engine/storage.hpp>
#include <tessera/engine/views.hpp>

namespace tessera {

/// The whole gradient buffer: stages 0 and 1.
template <class Executor, class Gradient>
class WholeGradients {
 public:
  using Event = typename Executor::Event;

  WholeGradients(const Sharding& sharding, Executor& executor, const Plan& plan, std::span<Gradient> of_caller)
      : sharding_(&sharding),
        executor_(&executor),
        storage_(executor, plan.gradients, of_caller),
        sent_(sharding.buckets()) {}

  /// Room for bucket `b`, safe to write: peers have read what the last pass left there.
  Gradient* open(int b, Unit) {
    executor_->wait(sent_[b]);
    return at(b);
  }
  Gradient* at(int b) const noexcept { return storage_.data() + sharding_->bucket(b).trainable.begin; }
  void sent(int b, const Event& reduced) { sent_[b] = reduced; }
  void settle() { sent_.fill(Event{}); }
  void drop() { settle(); }

  std::span<Gradient> all() const noexcept { return storage_.span(); }

 private:
  const Sharding* sharding_;
  Executor* executor_;
  Storage<Executor, Gradient> storage_;
  List<Event> sent_;
};

/// A slot for each bucket that backward fills or that is on its way: stages 2 and 3.
template <class Executor, class Gradient>
class SlottedGradients {
 public:
  using Event = typename Executor::Event;

  SlottedGradients(const Sharding& sharding, Executor& executor, const Plan& plan, std::span<Gradient>)
      : sharding_(&sharding),
        executor_(&executor),
        storage_(executor, plan.gradient_slots),
        slot_elements_(plan.gradient_slots.elements),
        slots_(plan.gradient_slots.copies) {}

  /// Room for bucket `b`: its slot, or the one that was sent first, of any content. Throws UsageError if backward's
  /// order needs more.
  Gradient* open(int b, Unit unit) {
    if (sharding_->bucket(b).trainable.empty()) return storage_.data();  // never departs, needs no slot
    Slot* best = nullptr;
    for (Slot& slot : slots_) {
      if (slot.bucket == b && !slot.sent) return room(slot);
      if (slot.bucket < 0 || (slot.sent && (!best || (best->bucket >= 0 && slot.order < best->order)))) best = &slot;
    }
    if (!best) refuse(unit);
    executor_->wait(best->reduced);
    *best = {b, false, 0, {}};
    return room(*best);
  }

  Gradient* at(int b) noexcept {
    for (Slot& slot : slots_)
      if (slot.bucket == b && !slot.sent) return room(slot);
    return nullptr;
  }

  void sent(int b, const Event& reduced) {
    for (Slot& slot : slots_)
      if (slot.bucket == b && !slot.sent) slot = {b, true, ++sent_count_, reduced};
  }

  /// All reductions have been waited for.
  void settle() {
    for (Slot& slot : slots_) slot.reduced = {};
  }
  void drop() { slots_.fill(Slot{}); }

 private:
  struct Slot {
    int bucket = -1;
    bool sent = false;
    index_t order = 0;
    Event reduced;
  };

  Gradient* room(const Slot& slot) const noexcept { return storage_.data() + (&slot - slots_.data()) * slot_elements_; }

  [[noreturn]] void refuse(Unit unit) const {
    std::string held;
    for (const Slot& slot : slots_)
      held += message({held.empty() ? "'" : ", '",
                       sharding_->layout().name(Unit{sharding_->bucket(slot.bucket).last_unit - 1}), "'"});
    throw UsageError(message({"gradients('", sharding_->layout().name(unit), "'): all ", slots_.size(),
                              " gradient slots are held by buckets that cannot depart yet (", held,
                              "): buckets depart last unit first, so run backward in the order of layout.backward()"}));
  }

  const Sharding* sharding_;
  Executor* executor_;
  Storage<Executor, Gradient> storage_;
  index_t slot_elements_;
  List<Slot> slots_;
  index_t sent_count_ = 0;
};

}  // namespace tessera
