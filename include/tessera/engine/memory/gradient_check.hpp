// Finds gradients that the caller wrote before the pass clears them, which would give a step of norm 0
// (Options::check_gradients). Only for whole gradients: stages 0 and 1.
//
//     step ends    note(): records the buffer
//                  the caller may clear the buffer, but not write other values
//     backward     require_unwritten(): UsageError if it did; then the buffer is cleared
#pragma once

#include <span>
#include <string>

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

/// Digests of the gradients: one per tensor, or one per bucket of a flat layout.
template <class Executor, class Gradient>
class GradientCheck {
 public:
  using Array = FlatArray<Gradient, placement::replicated>;

  /// on: false disables all members.
  GradientCheck(const Sharding& sharding, Executor& executor, bool on)
      : sharding_(&sharding), executor_(&executor), flat_(sharding.layout().is_flat()) {
    if (on) left_.resize(to_size(flat_ ? sharding.buckets() : sharding.layout().tensors().size()));
  }

  /// Records bucket `b`, which only the caller may change from now on. Blocks.
  void note(int b, const Array& all) {
    for_each(b, [&](Left& left, Range range, Tensor) { left = {executor_->digest(part(all, range)), true}; });
  }

  /// Called before the tensors of `unit` in bucket `b`, or the bucket of a flat layout, are cleared. Blocks. Throws
  /// UsageError, which names the first tensor (or range of a flat layout) that the caller wrote and did not clear.
  void require_unwritten(int b, const Array& all, Unit unit) {
    for_each(b, [&](Left& left, Range range, Tensor t) {
      if (!left.known || !(flat_ || sharding_->layout().unit_of(t) == unit)) return;
      if (executor_->digest(part(all, range)) == left.digest) return;
      if (zero(part(all, range))) return;  // the caller cleared it, which is allowed
      const std::string name = sharding_->layout().name(t);
      throw UsageError(message({"'", name, flat_ ? message({"[", range.begin, "...", range.end, ")"}) : std::string(),
                                "' was written before backward() or gradients(unit), which would clear it: write "
                                "gradients after, or clear them yourself and call backward({.zero = false})"}));
    });
  }

  /// Discards all records.
  void forget() { left_.fill({}); }

 private:
  struct Left {
    std::uint64_t digest = 0;
    bool known = false;
  };

  static std::span<const Gradient> part(const Array& all, Range range) { return all.span(range); }

  template <class Visit>
  void for_each(int b, Visit visit) {
    if (left_.empty()) return;
    if (flat_) return visit(left_[to_size(b)], sharding_->range(b, 0), Tensor{0});
    for (int s = 0; s < sharding_->layout().rules(); ++s)
      sharding_->for_each_run(b, s, sharding_->range(b, s), [&](Tensor t, index_t, Range range) {
        visit(left_[to_size(t.index)], range, t);
      });
  }

  bool zero(std::span<const Gradient> gradients) {
    constexpr std::size_t most = std::size_t{1} << 16;
    core::List<Gradient> some(min(gradients.size(), most));
    for (std::size_t begin = 0; begin < gradients.size(); begin += most) {
      const auto chunk = gradients.subspan(begin, min(gradients.size() - begin, most));
      executor_->download(chunk, some.data());
      for (std::size_t i = 0; i < chunk.size(); ++i)
        if (static_cast<float>(some[i]) != 0) return false;
    }
    return true;
  }

  const Sharding* sharding_;
  Executor* executor_;
  bool flat_;
  core::List<Left> left_;
};

}  // namespace tessera::engine
