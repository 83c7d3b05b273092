// The executor of the host: memory, and loops over it in the machine's vectors and on a few threads. Its work is done
// when a call returns; only communication is asynchronous here.
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

/// A copy of a number, which has been made.
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

/// One thread at a time may call it. A copy has the same number of threads, its own, and counts its own bytes. All that
/// it is given runs in the default floating-point environment (exec/float_environment.hpp).
class Host {
 public:
  using Event = HostEvent;
  template <class T>
  using Buffer = HostBuffer<T>;
  template <class T>
  using ReadBack = HostReadBack<T>;

  static constexpr bool synchronous = true;

  /// threads: on how many threads loops run, the caller's included; with 1 none is ever started.
  /// Throws std::system_error if the system gives no thread.
  explicit Host(int threads = 1) : team_(std::make_shared<exec::Team>(threads)), count_(std::make_shared<exec::ByteCount>()) {}
  Host(const Host& other) : Host(other.threads()) {}
  Host(Host&&) noexcept = default;
  Host& operator=(Host&&) noexcept = default;

  int threads() const noexcept { return team_->parts(); }

  /// n elements, zero at first; n = 0 is legal. Blocks. Throws std::bad_alloc.
  template <class T>
  Buffer<T> allocate(index_t n) {
    return Buffer<T>(n, count_);
  }

  /// What the buffers of this executor hold now, and held at most: elements times their size, nothing added.
  index_t allocated_bytes() const noexcept { return count_->held(); }
  index_t peak_bytes() const noexcept { return count_->peak(); }

  /// The event of all work given so far: it has happened.
  Event record() const noexcept { return {}; }
  /// Blocks until `event` has happened. Throws CommError as the event's queue does.
  void wait(const Event& event) { event.wait(); }

  /// Calls body(i) for 0 <= i < n. What body must be: exec/vectorize.hpp. Blocks. The bits do not depend on the
  /// threads.
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

  /// Adds the squares of `values`, in 64-element blocks (exec/squares.hpp), to sum->squares; blocks that hold a
  /// non-finite element are left out, and the first such element's place goes to sum->first_non_finite. Blocks.
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

  /// Adds the squares of what body(i) returns for 0 <= i < n to `sum`, as add_squares does; the 0th is the `lead`-th
  /// element of its block. Body: as for for_each. Blocks with a number that is not finite are left out. Blocks.
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

  /// All that the caller can point to is reachable.
  void check_reachable(const char*, const void*, index_t) const noexcept {}

 private:
  // Below this a loop is done before another thread has woken.
  static constexpr index_t least_to_share = index_t{1} << 15;

  template <class Body>
  static auto bound(const Body& body) {
    const exec::DefaultFloatEnvironment ieee;
    return exec::run_scalar([&] { return body.bind(); });
  }

  // Not inlined, as vector code.
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
