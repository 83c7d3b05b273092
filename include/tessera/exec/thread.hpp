// Threads, locks and a clock, as thin names for those of POSIX: <thread>, <mutex> and <condition_variable> take as long
// to compile as half of this library.
#pragma once

#include <pthread.h>
#include <time.h>

#include <cerrno>
#include <compare>
#include <cstdint>
#include <limits>
#include <system_error>
#include <utility>

#include <tessera/core/duration.hpp>

namespace tessera {

/// A moment on a clock that nobody sets.
struct Moment {
  std::int64_t nanoseconds = 0;

  static Moment now() noexcept {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return {time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec};
  }

  /// The end of time.
  static constexpr Moment never() noexcept { return {std::numeric_limits<std::int64_t>::max()}; }

  /// Never past the end of time.
  friend Moment operator+(Moment moment, Duration duration) noexcept {
    std::int64_t sum;
    return {__builtin_add_overflow(moment.nanoseconds, duration.nanoseconds(), &sum) ? never().nanoseconds : sum};
  }
  friend Duration operator-(Moment a, Moment b) noexcept {
    return Duration::nanoseconds(a.nanoseconds - b.nanoseconds);
  }
  // Not defaulted: nvcc 13 warns of comparisons that it makes itself.
  friend constexpr bool operator==(Moment a, Moment b) noexcept { return a.nanoseconds == b.nanoseconds; }
  friend constexpr auto operator<=>(Moment a, Moment b) noexcept { return a.nanoseconds <=> b.nanoseconds; }
  // Not that of core/math.hpp, which a device calls too and these comparisons are not for.
  friend constexpr Moment min(Moment a, Moment b) noexcept { return b < a ? b : a; }

  timespec posix() const noexcept {
    constexpr std::int64_t second = 1'000'000'000;
    timespec time{};
    time.tv_sec = nanoseconds / second;
    time.tv_nsec = nanoseconds % second;
    return time;
  }
};

/// Blocks, and leaves the processor to others, until the moment has come.
inline void sleep_until(Moment moment) noexcept {
  const timespec until = moment.posix();
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  ~Mutex() { pthread_mutex_destroy(&mutex_); }

  void lock() noexcept { pthread_mutex_lock(&mutex_); }
  void unlock() noexcept { pthread_mutex_unlock(&mutex_); }

 private:
  friend class Condition;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

/// Holds the mutex from its first line to its last, but for what lies between unlock() and lock().
class Lock {
 public:
  explicit Lock(Mutex& mutex) noexcept : mutex_(mutex) { mutex_.lock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() {
    if (locked_) mutex_.unlock();
  }

  void lock() noexcept {
    mutex_.lock();
    locked_ = true;
  }
  void unlock() noexcept {
    locked_ = false;
    mutex_.unlock();
  }

 private:
  friend class Condition;
  Mutex& mutex_;
  bool locked_ = true;
};

class Condition {
 public:
  Condition() {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&condition_, &monotonic);
    pthread_condattr_destroy(&monotonic);
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  ~Condition() { pthread_cond_destroy(&condition_); }

  void notify_one() noexcept { pthread_cond_signal(&condition_); }
  void notify_all() noexcept { pthread_cond_broadcast(&condition_); }

  /// May also return without any notify.
  void wait(Lock& lock) noexcept { pthread_cond_wait(&condition_, &lock.mutex_.mutex_); }
  void wait_until(Lock& lock, Moment moment) noexcept {
    const timespec until = moment.posix();
    pthread_cond_timedwait(&condition_, &lock.mutex_.mutex_, &until);
  }

 private:
  pthread_cond_t condition_;
};

/// A thread that runs a function to its end. An exception out of it ends the program.
class Thread {
 public:
  Thread() = default;

  /// Throws std::system_error if the system gives no thread.
  template <class Function>
  explicit Thread(Function function) {
    auto* const code = new Function(std::move(function));
    const int error = pthread_create(&thread_, nullptr, run<Function>, code);
    if (error != 0) {
      delete code;
      throw std::system_error(error, std::generic_category(), "the system gives no thread");
    }
    joinable_ = true;
  }

  Thread(Thread&& other) noexcept : thread_(other.thread_), joinable_(std::exchange(other.joinable_, false)) {}
  Thread& operator=(Thread&& other) noexcept {
    std::swap(thread_, other.thread_);
    std::swap(joinable_, other.joinable_);
    return *this;
  }
  ~Thread() { join(); }

  /// Waits for the function's end; at once if there is none.
  void join() noexcept {
    if (std::exchange(joinable_, false)) pthread_join(thread_, nullptr);
  }

  /// Leaves the function to run to its end alone: it owns all that it uses.
  void detach() noexcept {
    if (std::exchange(joinable_, false)) pthread_detach(thread_);
  }

 private:
  template <class Function>
  static void* run(void* code) noexcept {
    auto* const function = static_cast<Function*>(code);
    (*function)();
    delete function;
    return nullptr;
  }

  pthread_t thread_{};
  bool joinable_ = false;
};

}  // namespace tessera
