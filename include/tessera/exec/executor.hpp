// What the engine needs of whatever computes: memory that it counts, events, and two loops.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

namespace executor {

// Loops over one element that the concept can be tried with.
struct AnyBody {
  void operator()(index_t) const noexcept {}
};
struct AnyNumber {
  float operator()(index_t) const noexcept { return 0; }
};

}  // namespace executor

/// Owns size() elements of T at span(), move-only, zero at first; gives them back when destroyed.
template <class B, class T>
concept BufferOf = std::movable<B> && !std::copyable<B> && requires(B buffer, const B constant) {
  { buffer.span() } -> std::same_as<std::span<T>>;
  { constant.span() } -> std::same_as<std::span<const T>>;
  { constant.size() } -> std::same_as<index_t>;
};

/// Runs the engine's loops, in the order in which it was given them. Events order it against communication: record()
/// is the event of all work given so far, and what is given after wait(event) starts after that event.
/// for_each(n, body) calls body(i) for 0 <= i < n; add_squares(values, sum) adds 64-element block sums to an ExactSum
/// and returns the index of the first non-finite
/// element, or -1; add_squares_of(n, lead, body, sum) adds those of the numbers body(i), the 0th being the lead-th of
/// its block; digest(values) is a number by which two sequences of values that differ are told apart.
template <class E>
concept Executor = std::copy_constructible<E> && std::default_initializable<typename E::Event> &&
                   std::copyable<typename E::Event> && BufferOf<typename E::template Buffer<float>, float> &&
                   requires(E executor, const E constant, const typename E::Event event, std::span<const float> values,
                            ExactSum sum) {
                     {
                       executor.template allocate<float>(index_t{})
                     } -> std::same_as<typename E::template Buffer<float>>;
                     { constant.allocated_bytes() } -> std::same_as<index_t>;
                     { executor.record() } -> std::same_as<typename E::Event>;
                     executor.wait(event);
                     executor.for_each(index_t{}, executor::AnyBody{});
                     { executor.add_squares(values, sum) } -> std::same_as<index_t>;
                     executor.add_squares_of(index_t{}, index_t{}, executor::AnyNumber{}, sum);
                     { executor.digest(values) } -> std::same_as<std::uint64_t>;
                   };

}  // namespace tessera
