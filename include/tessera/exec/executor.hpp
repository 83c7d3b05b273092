// What the engine needs of whatever computes: memory that it counts, events, and a few loops.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/squares.hpp>

namespace tessera {

namespace executor {

// Bodies that the concept can be tried with.
struct AnyBody {
  void operator()(index_t) const noexcept {}
};
struct AnyNumber {
  float operator()(index_t) const noexcept { return 0; }
};
struct AnyTask {
  void operator()() const noexcept {}
};
struct AnyValueBody {
  void operator()(index_t, float) const noexcept {}
};

}  namespace exec {

// namespace executor

/// Owns size() elements of T at span(), move-only, zero at first; gives them back when destroyed.
template <class B, class T>
concept BufferOf = std::movable<B> && !std::copyable<B> && requires(B buffer, const B constant) {
  { buffer.span() } -> std::same_as<std::span<T>>;
  { constant.span() } -> std::same_as<std::span<const T>>;
  { constant.size() } -> std::same_as<index_t>;
};

}  // namespace exec

/// Runs the engine's loops, in the order in which it was given them, over memory that the host may not see.
///   synchronous              its work is done when a call returns, and the host reads its memory
///   record(), wait(event)    order it against communication: record() is the event of all work given so far, and what is
///                            given after wait(event) starts after that event
///   for_each(n, body)        body(i) for 0 <= i < n: exec/loop_body.hpp
///   once(task)               task()
///   add_squares(values, place, sum)     64-element block sums go to sum->squares, the first non-finite element's place
///                            (values[0] has `place`) to sum->first_non_finite if it is the lowest
///   add_squares_of(n, lead, body, sum)  those of the numbers body(i), the 0th being the lead-th of its block
///   digest(values)           a number by which two sequences of values that differ are told apart
///   from_host(n, value, body)   body(i, value(i)) for 0 <= i < n: value on the calling thread, in order
///   upload, download         between the host's memory and its own
///   read_back(from)          *from as it is when the work given so far is done: get() waits for it, arrived() does not
///   check_reachable(name, memory, bytes)   throws BufferError unless its loops can use the memory
/// from_host, upload, download, digest and a read-back's get() block; nothing else does but wait, on the host.
template <class E>
concept Executor =
    std::copy_constructible<E> && std::default_initializable<typename E::Event> &&
    std::copyable<typename E::Event> && exec::BufferOf<typename E::template Buffer<float>, float> &&
    std::copyable<typename E::template ReadBack<float>> &&
    requires(E executor, const E constant, const typename E::Event event, std::span<const float> values,
             std::span<float> room, float* number, SquareSum* sum, ExactSum* exact,
             const typename E::template ReadBack<float> back) {
      typename std::bool_constant<E::synchronous>;
      { executor.template allocate<float>(index_t{}) } -> std::same_as<typename E::template Buffer<float>>;
      { constant.allocated_bytes() } -> std::same_as<index_t>;
      { constant.peak_bytes() } -> std::same_as<index_t>;
      { executor.record() } -> std::same_as<typename E::Event>;
      executor.wait(event);
      executor.for_each(index_t{}, executor::AnyBody{});
      executor.once(executor::AnyTask{});
      executor.add_squares(values, index_t{}, sum);
      executor.add_squares_of(index_t{}, index_t{}, executor::AnyNumber{}, exact);
      { executor.digest(values) } -> std::same_as<std::uint64_t>;
      executor.from_host(index_t{}, executor::AnyNumber{}, executor::AnyValueBody{});
      executor.upload(room, static_cast<const float*>(number));
      executor.download(values, number);
      { executor.read_back(static_cast<const float*>(number)) } -> std::same_as<typename E::template ReadBack<float>>;
      { back.get() } -> std::convertible_to<float>;
      { back.arrived() } -> std::same_as<bool>;
      executor.check_reachable("", static_cast<const void*>(number), index_t{});
    };

/// An executor whose work is on a stream of a device, stream(). fork(other): what `other` is given from now on runs
/// after what the executor was given so far. join(other): the other way round.
template <class E>
concept StreamExecutor = Executor<E> && requires(E executor) {
  executor.fork(executor.stream());
  executor.join(executor.stream());
};

}  // namespace tessera
