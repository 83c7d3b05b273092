// The pieces of a bucket that one collective moves: one per space that has elements in the bucket.
#pragma once

#include <array>
#include <span>

#include <tessera/comm/call.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

template <class In, class Out = In>
class BucketPieces {
 public:
  /// Adds a piece, unless it has no elements: `elements` of the whole vector.
  void add(index_t elements, const Piece<In, Out>& piece) noexcept {
    if (elements > 0) pieces_[size_++] = piece;
  }

  bool empty() const noexcept { return size_ == 0; }
  std::span<const Piece<In, Out>> span() const noexcept { return std::span(pieces_).first(size_); }

 private:
  std::array<Piece<In, Out>, layout::most_rules + 1> pieces_{};
  std::size_t size_ = 0;
};

/// The trainable pieces of bucket `b` in an all-gather of what each rank owns of `array` to those that hold it.
template <class T, Placement where>
BucketPieces<T> owned_to_held(const Sharding& sharding, const FlatArray<T, where>& array, int b) {
  BucketPieces<T> pieces;
  for (int s = 0; s < sharding.layout().rules(); ++s) {
    const int p = sharding.piece(b, s);
    pieces.add(sharding.range(b, s).size(), {array.owned_span(p), array.held_span(p), sharding.partition().part(p)});
  }
  return pieces;
}

}  // namespace tessera::engine
