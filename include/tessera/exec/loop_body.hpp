// What an executor runs in a loop: a body for one element, and optional members that make the loop faster.
// docs/executors.md shows each.
#pragma once

#include <concepts>
#include <utility>

#include <tessera/core/math.hpp>

namespace tessera {

/// body(i) handles element i and accesses no data of another element. Trivially copyable. On the host the call must be
/// inlined (TESSERA_ALWAYS_INLINE); on a device it is TESSERA_HD and the body has at most 4 KiB.
template <class Body>
concept LoopBody = requires(const Body& body) { body(index_t{}); };

/// A body whose parameters are read from executor memory when the loop runs. enabled(): whether the loop runs at all.
/// bind(): the body to run. An executor calls each at least once per loop, on any thread.
template <class Body>
concept LateBoundBody = requires(const Body& body) {
  { body.enabled() } noexcept -> std::same_as<bool>;
  { body.bind() } noexcept;
};

namespace loop_body {

template <class Body>
struct Bound {
  using Type = Body;
};
template <LateBoundBody Body>
struct Bound<Body> {
  using Type = decltype(std::declval<const Body&>().bind());
};

}  // namespace loop_body

/// The body that runs: the result of bind() for a late-bound body, else the body itself.
template <class Body>
using BoundBody = typename loop_body::Bound<Body>::Type;

/// prefetch(i) prefetches the memory of later elements. The host calls it before each block of 64.
template <class Body>
concept PrefetchingBody = requires(const Body& body) { body.prefetch(index_t{}); };

/// body(i) is first(i) followed by last(i). The host may run last(i) one block later, to hide divisions and roots.
template <class Body>
concept TwoPhaseBody = requires(const Body& body) {
  body.first(index_t{});
  body.last(index_t{});
};

/// The host calls after(begin, end) when these elements are done: once for every element, in order.
template <class Body>
concept CheckingBody = requires(const Body& body) { body.after(index_t{}, index_t{}); };

/// Elements that a device handles in packs of pack_elements, with 16-byte accesses. pack<pack_elements>(i, n) handles
/// those of i, i + 1, ... that lie in [0, n). The first pack begins lead() elements before element 0.
template <class Body>
concept PackedBody = requires(const Body& body, const BoundBody<Body>& bound) {
  { body.lead() } -> std::convertible_to<index_t>;
  bound.template pack<Body::pack_elements>(index_t{}, index_t{});
};

}  // namespace tessera
