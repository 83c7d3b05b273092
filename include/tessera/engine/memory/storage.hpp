// A buffer of the plan: the caller's if it passed one, else allocated once through the executor.
#pragma once

#include <concepts>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/plan.hpp>

namespace tessera {

namespace engine {

/// The alignment of a caller's buffers in bytes: the widest access of a device, and what malloc guarantees.
inline constexpr std::size_t buffer_alignment = 16;

}  // namespace engine

/// A buffer of the caller, or none. Converts from a span, vector or array of T.
template <class T>
struct CallersBuffer : std::span<T> {
  constexpr CallersBuffer() noexcept {}  // if defaulted, a member initializer {} crashes g++ 12

  /// Does not compile for another type; the message says why.
  template <class Given>
  constexpr CallersBuffer(Given&& given) {
    constexpr bool fits = std::convertible_to<Given, std::span<T>>;
    static_assert(fits,
                  "a buffer is a std::span, std::vector or std::array of T, not const, that outlives the optimizer");
    if constexpr (fits) std::span<T>::operator=(std::span<T>(std::forward<Given>(given)));
  }
};

namespace engine {

/// Throws BufferError if the caller's `buffer` does not fit `planned`. A null buffer means none.
template <class T>
void check_buffer(std::span<T> buffer, const Allocation& planned) {
  if (buffer.data() == nullptr) return;
  const std::string name = message({"buffer '", planned.name, "'"});
  const auto has = static_cast<index_t>(buffer.size());
  if (planned.copies == 0)
    throw BufferError(
        message({name, " is not used at this stage, which keeps gradients in slots of its own: hand in none"}));
  if (has < planned.elements)
    throw BufferError(
        message({name, " has ", has, " elements, but ", planned.elements, " are needed (Sharded::required)"}));
  if (reinterpret_cast<std::uintptr_t>(buffer.data()) % buffer_alignment != 0)
    throw BufferError(message({name, " does not begin at a multiple of ", buffer_alignment, " bytes"}));
}

/// Throws BufferError if the caller's two buffers share memory.
template <class A, class B>
void check_apart(std::span<A> a, std::span<B> b) {
  const auto begin = [](auto s) { return reinterpret_cast<std::uintptr_t>(s.data()); };
  const auto end = [](auto s) { return reinterpret_cast<std::uintptr_t>(s.data() + s.size()); };
  if (a.empty() || b.empty() || end(a) <= begin(b) || end(b) <= begin(a)) return;
  throw BufferError("buffers 'parameters' and 'gradients' overlap: each needs memory of its own");
}

/// executor.for_each(n, Zero<T>{first}) sets n elements to zero.
template <class T>
struct Zero {
  T* first;
  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { first[i] = T{}; }
};

template <class Executor, class T>
class Storage {
 public:
  using Buffer = typename Executor::template Buffer<T>;

  /// Throws MemoryError, which names the buffer.
  Storage(Executor& executor, const Allocation& planned, std::span<T> of_caller = {})
      : own_(of_caller.data() ? Buffer{} : allocate(executor, planned)),
        span_(of_caller.data() ? of_caller.first(to_size(planned.elements)) : own_.span()) {}

  T* data() const noexcept { return span_.data(); }
  std::span<T> span() const noexcept { return span_; }

 private:
  static Buffer allocate(Executor& executor, const Allocation& planned) {
    try {
      return executor.template allocate<T>(planned.copies * planned.elements);
    } catch (const std::exception& error) {
      throw MemoryError(message({"buffer '", planned.name, "' of ", planned.bytes(), " bytes could not be allocated: ",
                                 error.what(), "; plan() lists what a rank needs at each stage"}));
    }
  }

  Buffer own_;
  std::span<T> span_;
};

}  // namespace engine

}  // namespace tessera
