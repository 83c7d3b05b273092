// What the engine requires of an executor: counted memory, events, and a few loops.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/squares.hpp>

namespace tessera {

namespace executor {

// Loop bodies with which the concept is checked.
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

}  // namespace executor

namespace exec {

/// Owns size() elements of T at span(), zero at first. Move-only; the destructor frees the memory.
template <class B, class T>
concept BufferOf = std::movable<B> && !std::copyable<B> && requires(B buffer, const B constant) {
  { buffer.span() } -> std::same_as<std::span<T>>;
  { constant.span() } -> std::same_as<std::span<const T>>;
  { constant.size() } -> std::same_as<index_t>;
};

}  // namespace exec

/// Runs the engine's loops in the order of the calls, over memory that the host may not be able to access.
///   synchronous              true: a call returns when its work is done, and the host can read the memory
///   record(), wait(event)    order loops and communication. record() is the event of all work so far; work after
///                            wait(event) starts after that event
///   for_each(n, body)        body(i) for 0 <= i < n: exec/loop_body.hpp
///   once(task)               task()
///   add_squares(values, place, sum)     adds the sums of 64-element blocks to sum->squares, and lowers
///                            sum->first_non_finite to the place of the first non-finite element (values[0]: `place`)
///   add_squares_of(n, lead, body, sum)  the same sums for the numbers body(i); number 0 is element `lead` of its block
///   digest(values)           a digest that tells different sequences of values apart
///   from_host(n, value, body)   body(i, value(i)) for 0 <= i < n. value runs on the calling thread, in order
///   upload, download         copy between host memory and executor memory
///   read_back(from)          *from after all work so far: get() waits for it, arrived() does not
///   check_reachable(name, memory, bytes)   throws BufferError unless the executor's loops can access the memory
/// from_host, upload, download, digest and a read-back's get() block; on the host wait() does too. Other calls do not.
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

/// An executor that enqueues its work on a device stream, stream(). fork(other): later work on `other` waits for the
/// executor's work so far. join(other): the executor's later work waits for the work on `other` so far.
template <class E>
concept StreamExecutor = Executor<E> && requires(E executor) {
  executor.fork(executor.stream());
  executor.join(executor.stream());
};

}  // namespace tessera
