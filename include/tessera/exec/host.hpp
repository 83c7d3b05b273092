// The host executor: memory, and loops that use the machine's vector units and a few threads. A call returns when its
// work is done; on the host only communication is asynchronous.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <type_traits>

#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/buffer.hpp>
#include <tessera/exec/event.hpp>
#include <tessera/exec/executor.hpp>
#include <tessera/exec/float_environment.hpp>
#include <tessera/exec/squares.hpp>
#include <tessera/exec/team.hpp>
#include <tessera/exec/value_digest.hpp>
#include <tessera/exec/vectorize.hpp>

namespace tessera {

/// A number that was already copied.
template <class T>
class HostReadBack {
 public:
  HostReadBack() = default;
  explicit HostReadBack(const T& value) : value_(value) {}

  const T& get() const noexcept { return value_; }
  bool arrived() const noexcept { return true; }

 private:
  T value_{};
};

/// Used by one thread at a time. A copy has its own threads, equally many, and counts its own bytes. All work runs in
/// the default floating-point environment (exec/float_environment.hpp).
class Host {
 public:
  using Event = HostEvent;
  template <class T>
  using Buffer = HostBuffer<T>;
  template <class T>
  using ReadBack = HostReadBack<T>;

  static constexpr bool synchronous = true;

  /// threads: how many threads run loops, including the caller's; with 1 no thread is started.
  /// Throws std::system_error if the system cannot start a thread.
  explicit Host(int threads = 1) : team_(std::make_shared<exec::Team>(threads)), count_(std::make_shared<exec::ByteCount>()) {}
  Host(const Host& other) : Host(other.threads()) {}
  Host(Host&&) noexcept = default;
  Host& operator=(Host&&) noexcept = default;

  int threads() const noexcept { return team_->parts(); }

  /// n elements, zero at first; n may be 0. Blocks. Throws std::bad_alloc.
  template <class T>
  Buffer<T> allocate(index_t n) {
    return Buffer<T>(n, count_);
  }

  /// The bytes that this executor's buffers hold now, and the peak: elements times element size, without overhead.
  index_t allocated_bytes() const noexcept { return count_->held(); }
  index_t peak_bytes() const noexcept { return count_->peak(); }

  /// The event of all work so far, which is complete.
  Event record() const noexcept { return {}; }
  /// Blocks until `event` is complete. Throws CommError as the event's queue does.
  void wait(const Event& event) { event.wait(); }

  /// Calls body(i) for 0 <= i < n. For body's requirements see exec/vectorize.hpp. Blocks. The bits do not depend on
  /// the number of threads.
  template <class Body>
  void for_each(index_t n, Body body) {
    if constexpr (LateBoundBody<Body>) {
      if (body.enabled()) for_each(n, bound(body));
    } else {
      split(n, [&](index_t begin, index_t end) { exec::vectorize(begin, end, body); });
    }
  }

  template <class Task>
  void once(Task task) {
    const exec::DefaultFloatEnvironment ieee;
    exec::run_scalar(task);
  }

  /// Adds the squares of `values`, in 64-element blocks (exec/squares.hpp), to sum->squares. Skips blocks with a
  /// non-finite element, and lowers sum->first_non_finite to the place of the first such element. Blocks.
  template <class T>
  void add_squares(std::span<const T> values, index_t place, SquareSum* sum) {
    std::mutex merging;
    split(static_cast<index_t>(values.size()), [&](index_t begin, index_t end) {
      ExactSum part;
      const index_t found = squares::add(values.data(), begin, end, part);
      const std::scoped_lock lock(merging);
      sum->squares.add(part);
      if (found >= 0) sum->first_non_finite = min(sum->first_non_finite, static_cast<std::uint64_t>(place + found));
    });
  }

  /// Adds the squares of body(i) for 0 <= i < n to `sum`, as add_squares does; element 0 is element `lead` of its
  /// block. Body: as for for_each. Skips blocks with a non-finite number. Blocks.
  template <class Body>
  void add_squares_of(index_t n, index_t lead, Body body, ExactSum* sum) {
    if constexpr (LateBoundBody<Body>) {
      if (body.enabled()) add_squares_of(n, lead, bound(body), sum);
    } else {
      std::mutex merging;
      split(lead + n, [&](index_t begin, index_t end) {
        ExactSum part;
        squares::add_of(body, max(begin - lead, index_t{0}), end - lead, lead, part);
        const std::scoped_lock lock(merging);
        sum->add(part);
      });
    }
  }

  /// See exec/value_digest.hpp. T: of 4 or 2 bytes. Blocks.
  template <class T>
  std::uint64_t digest(std::span<const T> values) {
    const auto n = static_cast<index_t>(values.size());
    std::uint64_t sum = value_digest::of_length(n);
    std::mutex merging;
    split(n, [&](index_t begin, index_t end) {
      const std::uint64_t part = value_digest::of_range(values.data(), n, begin, end);
      const std::scoped_lock lock(merging);
      sum += part;
    });
    return sum;
  }

  /// body(i, value(i)) for 0 <= i < n, in order. Blocks.
  template <class Value, class Body>
  void from_host(index_t n, Value&& value, const Body& body) {
    const exec::DefaultFloatEnvironment ieee;
    fill(n, value, body);
  }

  template <class T>
  void upload(std::span<T> to, const T* from) {
    if (!to.empty()) std::memcpy(static_cast<void*>(to.data()), from, to.size_bytes());
  }
  template <class T>
  void download(std::span<const T> from, T* to) {
    if (!from.empty()) std::memcpy(static_cast<void*>(to), from.data(), from.size_bytes());
  }

  template <class T>
  ReadBack<T> read_back(const T* from) {
    return ReadBack<T>(*from);
  }

  /// Does nothing: the host can access all of the caller's memory.
  void check_reachable(const char*, const void*, index_t) const noexcept {}

 private:
  // A shorter loop ends before another thread has woken up.
  static constexpr index_t least_to_share = index_t{1} << 15;

  template <class Body>
  static auto bound(const Body& body) {
    const exec::DefaultFloatEnvironment ieee;
    return exec::run_scalar([&] { return body.bind(); });
  }

  // Not inlined, for the same reason as vector code.
  template <class Value, class Body>
  [[gnu::noinline]] static void fill(index_t n, Value& value, const Body& body) {
    for (index_t i = 0; i < n; ++i) body(i, static_cast<float>(value(i)));
  }

  template <class Range>
  void split(index_t n, Range&& range) {
    const exec::DefaultFloatEnvironment ieee;
    if (threads() == 1 || n < least_to_share) return range(index_t{0}, n);
    const index_t each = round_up(ceil_div(n, threads()), block);
    team_->run([&](int part) {
      const index_t begin = min(n, each * part);
      range(begin, min(n, begin + each));
    });
  }

  std::shared_ptr<exec::Team> team_;
  std::shared_ptr<exec::ByteCount> count_;
};

}  // namespace tessera
