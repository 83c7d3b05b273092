// NCCL ranks for tests, as threads of one process with a device each. The emulation has any number of devices; a real
// machine has its own.
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

/// How long a test waits for an event that does not come: longer than NCCL needs to create and connect a communicator.
#if defined(__CUDACC__)
inline constexpr std::chrono::nanoseconds impatient = std::chrono::seconds(3);
#else
inline constexpr std::chrono::nanoseconds impatient = std::chrono::milliseconds(80);
#endif

/// Whether there are devices for that many ranks. If not, reports that the test is skipped.
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

/// Calls f(rank) on one thread per rank, with the rank's device as the current one, or device(rank). Returns each
/// rank's error message ("" if none).
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

/// The gather of a bucket's parameters.
inline local::Call gather_of_bucket(index_t bucket) {
  return {.kind = Collective::all_gather,
          .in = element_type<float>(),
          .out = element_type<float>(),
          .pieces = {{4096, 1024}},
          .tag = {"parameters of bucket", bucket, 2}};
}

/// The number of NCCL communicators that were created and not destroyed, as far as the emulation knows.
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

/// Calls f(Nccl&) on every rank and returns the error messages. Empty: there are not enough devices.
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

/// Comm whose reductions get a workspace of up to that many bytes.
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
      comm.executor().record().wait();  // the workspace is cleared
    }

    /// A call, or a span of calls, without a workspace.
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
