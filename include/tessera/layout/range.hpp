// Half-open ranges of elements, and iterable ranges of handles.
#pragma once

#include <tessera/core/math.hpp>

namespace tessera {

/// Elements [begin, end).
struct Range {
  index_t begin = 0;
  index_t end = 0;

  constexpr index_t size() const { return end - begin; }
  constexpr bool empty() const { return begin >= end; }
  friend constexpr bool operator==(Range, Range) = default;
};

namespace layout {

/// The intersection of two ranges. Empty if they are disjoint.
constexpr Range intersect(Range a, Range b) {
  const index_t begin = a.begin > b.begin ? a.begin : b.begin;
  const index_t end = a.end < b.end ? a.end : b.end;
  return {begin, end > begin ? end : begin};
}

/// The handles first, first + step, ..., without last.
template <class Handle>
class Handles {
 public:
  constexpr Handles(int first, int last, int step) : first_(first), last_(last), step_(step) {}

  class Iterator {
   public:
    constexpr Iterator(int index, int step) : index_(index), step_(step) {}
    constexpr Handle operator*() const { return Handle{index_}; }
    constexpr Iterator& operator++() {
      index_ += step_;
      return *this;
    }
    friend constexpr bool operator==(Iterator a, Iterator b) { return a.index_ == b.index_; }

   private:
    int index_;
    int step_;
  };

  constexpr Iterator begin() const { return {first_, step_}; }
  constexpr Iterator end() const { return {last_, step_}; }
  constexpr int size() const { return (last_ - first_) / step_; }

 private:
  int first_;
  int last_;
  int step_;
};

}  // namespace layout

}  // namespace tessera
