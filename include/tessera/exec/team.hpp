// A small thread team: fork, join, and again.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>

#include <tessera/core/list.hpp>
#include <tessera/exec/float_environment.hpp>

namespace tessera::exec {

/// `parts` threads, including the caller's: a team of 1 starts no thread. One caller at a time.
class Team {
 public:
  /// Throws std::system_error if the system cannot start a thread.
  explicit Team(int parts) : parts_(parts < 1 ? 1 : parts) {
    try {
      for (int part = 1; part < parts_; ++part) threads_.push_back(std::thread([this, part] { serve(part); }));
    } catch (...) {
      stop();
      throw;
    }
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { stop(); }

  int parts() const noexcept { return parts_; }

  /// Calls work(part) for 0 <= part < parts(), each on its own thread in the default floating-point environment, and
  /// returns when all have returned. Allocates nothing. An exception in work terminates the program.
  template <class Work>
  void run(Work&& work) noexcept {
    const DefaultFloatEnvironment ieee;
    if (parts_ == 1) return static_cast<void>(work(0));
    {
      const std::scoped_lock lock(mutex_);
      work_ = [](void* code, int part) { (*static_cast<std::remove_reference_t<Work>*>(code))(part); };
      code_ = &work;
      left_ = parts_ - 1;
      ++turn_;
    }
    work_came_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    while (left_ > 0) done_.wait(lock);
  }

 private:
  void serve(int part) noexcept {
    const DefaultFloatEnvironment ieee;  // a new thread inherits its creator's environment
    std::unique_lock lock(mutex_);
    for (std::uint64_t seen = 0;; ++seen) {
      while (turn_ == seen) work_came_.wait(lock);
      if (stopping_) return;
      lock.unlock();
      work_(code_, part);
      lock.lock();
      if (--left_ == 0) done_.notify_one();
    }
  }

  void stop() noexcept {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
      ++turn_;
    }
    work_came_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  int parts_;
  std::mutex mutex_;  // guards everything below except threads_
  std::condition_variable work_came_;
  std::condition_variable done_;
  std::uint64_t turn_ = 0;
  int left_ = 0;
  bool stopping_ = false;
  void (*work_)(void*, int) = nullptr;
  void* code_ = nullptr;
  core::List<std::thread> threads_;
};

}  // namespace tessera::exec
