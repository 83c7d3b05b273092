// A queue of indices that removes any index without a search. Usable in constant expressions.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::core {

/// A subset of the indices 0, 1, ..., n - 1, in the order in which they were appended.
class IndexQueue {
 public:
  constexpr explicit IndexQueue(int n) : links_(to_size(n) + 1), end_(n) { links_[to_size(end_)] = {end_, end_}; }

  /// front(): the first index. after(i): the index after `i`, which must be in the queue. -1 if there is none.
  constexpr int front() const noexcept { return after(end_); }
  constexpr int after(int i) const noexcept { return links_[to_size(i)].after == end_ ? -1 : links_[to_size(i)].after; }

  /// Appends `i`, or moves it to the end if it is in the queue.
  constexpr void append(int i) noexcept {
    remove(i);
    const int last = links_[to_size(end_)].before;
    links_[to_size(i)] = {last, end_};
    links_[to_size(last)].after = links_[to_size(end_)].before = i;
  }

  /// Does nothing if `i` is not in the queue.
  constexpr void remove(int i) noexcept {
    const auto [before, after] = links_[to_size(i)];
    if (before < 0) return;
    links_[to_size(before)].after = after;
    links_[to_size(after)].before = before;
    links_[to_size(i)] = {};
  }

 private:
  struct Link {
    int before = -1;  // the previous index or end_; -1: not in the queue
    int after = -1;
  };

  List<Link> links_;  // a circular list through end_
  int end_;
};

}  // namespace tessera::core
