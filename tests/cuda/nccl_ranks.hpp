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

#include <tessera/comm/decorators/decorator.hpp>
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
          .pieces = {{4096, 1024}},
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

/// Comm, whose reductions are given a workspace, of up to so many bytes.
template <class Comm>
class WithWorkspace : public CommunicatorDecorator<Comm> {
 public:
  struct Workspace {
    typename Comm::Executor::template Buffer<float> workspace;
  };

  // The workspace outlives the queue.
  class Queue : Workspace, public QueueDecorator<typename Comm::Queue> {
    using Below = QueueDecorator<typename Comm::Queue>;

   public:
    using Event = typename Below::Event;

    Queue(Comm& comm, std::chrono::nanoseconds timeout)
        : Workspace{comm.executor().template allocate<float>(index_t{1} << 17)}, Below(comm, timeout) {
      comm.executor().record().wait();  // it is clear
    }

    /// A call, or a span of calls without one.
    template <class Call>
      requires Posts<typename Comm::Queue, Call>
    Event post(Call call, const Event& after = {}) {
      if constexpr (requires { call.workspace; }) call.workspace = std::as_writable_bytes(this->workspace.span());
      return Below::post(call, after);
    }
  };

  explicit WithWorkspace(Comm comm) : CommunicatorDecorator<Comm>(std::move(comm)) {}
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(this->below(), timeout); }
};

/// For comm/local/cases.hpp.
template <class C>
struct OverNccl {
  using Comm = WithWorkspace<C>;
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
