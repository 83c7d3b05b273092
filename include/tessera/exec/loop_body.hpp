// What an executor runs in a loop: one element at a time, and what a body may have besides, by which an executor does
// it better. docs/executors.md shows each part.
#pragma once

#include <concepts>
#include <utility>

#include <tessera/core/math.hpp>

namespace tessera {

/// body(i) does element i and touches nothing that another element's call touches. Trivially copyable; on the host its
/// call is always inlined (TESSERA_ALWAYS_INLINE), on a device it is TESSERA_HD and the body has at most 4 KiB.
template <class Body>
concept LoopBody = requires(const Body& body) { body(index_t{}); };

/// A body that is bound where and when it runs, to numbers in the executor's memory: enabled() says whether anything is
/// done at all, bind() is the body that then runs. An executor calls each at least once per loop, on any thread.
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

/// What runs in the end: what a late-bound body binds, or the body itself.
template <class Body>
using BoundBody = typename loop_body::Bound<Body>::Type;

/// prefetch(i) asks for the memory of elements to come; called before each block of 64 on the host.
template <class Body>
concept PrefetchingBody = requires(const Body& body) { body.prefetch(index_t{}); };

/// body(i) is first(i) and then last(i), which the host may do a block later: for divisions and roots, which take long.
template <class Body>
concept TwoPhaseBody = requires(const Body& body) {
  body.first(index_t{});
  body.last(index_t{});
};

/// after(begin, end) is called when these elements are done, so that all of them are once, in order, on the host.
template <class Body>
concept CheckingBody = requires(const Body& body) { body.after(index_t{}, index_t{}); };

/// Elements that a device does in groups of pack_elements, by accesses of 16 bytes: pack<pack_elements>(i, n) does
/// those of i, i + 1, ... that are among 0 <= k < n. The first group begins lead() elements before element 0.
template <class Body>
concept PackedBody = requires(const Body& body, const BoundBody<Body>& bound) {
  { body.lead() } -> std::convertible_to<index_t>;
  bound.template pack<Body::pack_elements>(index_t{}, index_t{});
};

}  // namespace tessera
