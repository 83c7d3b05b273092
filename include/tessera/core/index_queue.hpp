// A queue of indices from which any can be taken out, without a search. Usable in constant expressions.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::core {

/// Some of the indices 0, 1, ..., n - 1, each at most once, in the order in which they were appended.
class IndexQueue {
 public:
  constexpr explicit IndexQueue(int n) : links_(to_size(n) + 1), end_(n) { links_[to_size(end_)] = {end_, end_}; }

  /// The first index, and the one after `i`, which must be in the queue; -1 where there is none.
  constexpr int front() const noexcept { return after(end_); }
  constexpr int after(int i) const noexcept { return links_[to_size(i)].after == end_ ? -1 : links_[to_size(i)].after; }

  /// Makes `i` the last, whether or not it was in the queue.
  constexpr void append(int i) noexcept {
    remove(i);
    const int last = links_[to_size(end_)].before;
    links_[to_size(i)] = {last, end_};
    links_[to_size(last)].after = links_[to_size(end_)].before = i;
  }

  /// Nothing happens if `i` is not in the queue.
  constexpr void remove(int i) noexcept {
    const auto [before, after] = links_[to_size(i)];
    if (before < 0) return;
    links_[to_size(before)].after = after;
    links_[to_size(after)].before = before;
    links_[to_size(i)] = {};
  }

 private:
  struct Link {
    int before = -1;  // of an index that is in the queue: another, or end_
    int after = -1;
  };

  List<Link> links_;  // in a ring, which end_ closes
  int end_;
};

}  // namespace tessera::core
