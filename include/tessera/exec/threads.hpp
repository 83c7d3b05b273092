// A small team of threads that runs one piece of work after another: fork, join, again.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace tessera {

/// `parts` threads, of which the caller's is one: a team of 1 starts none. One caller at a time.
class Team {
 public:
  /// Throws std::system_error if the system gives no thread.
  explicit Team(int parts) : parts_(parts < 1 ? 1 : parts) {
    try {
      for (int part = 1; part < parts_; ++part) threads_.emplace_back([this, part] { serve(part); });
    } catch (...) {
      stop();
      throw;
    }
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { stop(); }

  int parts() const noexcept { return parts_; }

  /// Calls work(part) for 0 <= part < parts(), each on its own thread, and returns when all have. Nothing is allocated.
  /// An exception in work ends the program.
  template <class Work>
  void run(Work&& work) noexcept {
    if (parts_ == 1) return static_cast<void>(work(0));
    work_ = [](void* code, int part) { (*static_cast<std::remove_reference_t<Work>*>(code))(part); };
    code_ = &work;
    left_.store(parts_ - 1, std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);  // publishes the three above
    turn_.notify_all();
    work(0);
    for (int left = left_.load(std::memory_order_acquire); left != 0; left = left_.load(std::memory_order_acquire)) {
      left_.wait(left, std::memory_order_acquire);
    }
  }

 private:
  void serve(int part) noexcept {
    for (std::uint32_t seen = 0;; ++seen) {
      turn_.wait(seen, std::memory_order_acquire);
      if (stopping_.load(std::memory_order_relaxed)) return;
      work_(code_, part);
      if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
    }
  }

  void stop() noexcept {
    stopping_.store(true, std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  int parts_;
  std::atomic<std::uint32_t> turn_{0};
  std::atomic<int> left_{0};
  std::atomic<bool> stopping_{false};
  void (*work_)(void*, int) = nullptr;
  void* code_ = nullptr;
  std::vector<std::thread> threads_;
};

}  // namespace tessera
