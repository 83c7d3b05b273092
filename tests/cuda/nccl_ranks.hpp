// Ranks of NCCL as threads of one process, a device each, for tests: the emulation has as many devices as are asked
// for, a machine those that it has.
#pragma once

#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/local/call.hpp>
#include <tessera/cuda/nccl/nccl.cuh>

#include "cuda/ranks.hpp"

namespace tessera::testing {

/// How long a test waits for what is not to come: long enough for NCCL to make a communicator and connect it.
#if defined(__CUDACC__)
inline constexpr std::chrono::nanoseconds impatient = std::chrono::seconds(3);
#else
inline constexpr std::chrono::nanoseconds impatient = std::chrono::milliseconds(80);
#endif

/// Whether there are devices for so many ranks. If not, the test says that it is skipped.
inline bool devices_for(int ranks) {
#if defined(__CUDACC__)
  int count = 0;
  REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
  if (count < ranks) MESSAGE("skipped: it needs " << ranks << " devices, and there are " << count);
  return count >= ranks;
#else
  emulated::devices(ranks);
  return true;
#endif
}

/// Calls f(rank) on a thread a rank, whose current device is the rank-th, or as said. What each threw, by what() ("" if
/// nothing).
template <class F>
std::vector<std::string> errors_of_threads(
    int ranks, F f, int (*device)(int rank) = [](int rank) { return rank; }) {
  std::vector<std::string> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        cuda_check(cudaSetDevice(device(rank)), "choosing a device");
        f(rank);
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// What a queue is given of a bucket's parameters.
inline local::Call gather_of_bucket(index_t bucket) {
  return {.kind = Collective::all_gather,
          .in = element_type<float>(),
          .out = element_type<float>(),
          .elements = 4096,
          .part = 1024,
          .tag = {"parameters of bucket", bucket, 2}};
}

/// Communicators of NCCL that were made and have not ended, as far as the emulation can tell.
inline std::size_t communicators() {
#if defined(__CUDACC__)
  return 0;
#else
  return emulated::nccl_communicators();
#endif
}

inline ncclUniqueId new_id() {
  ncclUniqueId id{};
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  return id;
}

/// Calls f(Nccl&) on every rank; what each threw. Empty: there are no devices for so many.
template <class F>
std::vector<std::string> errors_of_ranks(int world, F f) {
  if (!devices_for(world)) return {};
  const ncclUniqueId id = new_id();
  return errors_of_threads(world, [&](int rank) {
    Nccl comm(id, rank, world, std::chrono::seconds(30));
    f(comm);
  });
}

template <class F>
void run_nccl_ranks(int world, F f) {
  for (const std::string& error : errors_of_ranks(world, f)) CHECK(error == "");
}

/// Comm, whose queues are lent what their reductions need, of up to so many bytes.
template <class Comm>
class Lent {
 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = Comm::ordered;

  class Queue {
   public:
    using Event = typename Executor::Event;

    Queue(Comm& comm, std::chrono::nanoseconds timeout)
        : staging_(comm.executor().template allocate<float>(index_t{1} << 17)), queue_(comm.queue(timeout)) {
      comm.executor().record().wait();  // it is clear
      queue_.lend(std::as_writable_bytes(staging_.span()));
    }

    template <class In, class Out>
    Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag,
                         const Event& after = {}) {
      return queue_.reduce_scatter(in, out, part, scale, tag, after);
    }
    template <class T>
    Event all_gather(std::span<const T> in, std::span<T> out, index_t part, Tag tag, const Event& after = {}) {
      return queue_.all_gather(in, out, part, tag, after);
    }
    template <class T>
    Event all_reduce(std::span<T> inout, Tag tag, const Event& after = {}) {
      return queue_.all_reduce(inout, tag, after);
    }
    template <class T>
    Event all_to_all(std::span<const T> in, std::span<T> out, Tag tag, const Event& after = {}) {
      return queue_.all_to_all(in, out, tag, after);
    }
    template <class T>
    Event broadcast(std::span<T> inout, int root, Tag tag, const Event& after = {}) {
      return queue_.broadcast(inout, root, tag, after);
    }
    void drop() noexcept { queue_.drop(); }

   private:
    typename Executor::template Buffer<float> staging_;
    typename Comm::Queue queue_;
  };

  explicit Lent(Comm comm) : comm_(std::move(comm)) {}
  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Executor executor() const { return comm_.executor(); }
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(comm_, timeout); }

 private:
  Comm comm_;
};

/// For comm/local/cases.hpp.
template <class C>
struct OverNccl {
  using Comm = Lent<C>;
  template <class T>
  using Memory = DeviceMemory<T>;

  template <class F>
  static void run_once(int world, F f) {
    run_nccl_ranks(world, [&](Nccl& nccl) {
      Comm comm{C(nccl)};
      f(comm);
    });
  }
  template <class F>
  static void run(int world, F f) {
    run_once(world, f);
  }
};

}  // namespace tessera::testing
