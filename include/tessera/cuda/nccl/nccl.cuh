// Ranks are processes with one device each, connected by NCCL. Sums are NCCL's own, without a fixed order or fixed
// bits; Ordered<Nccl> (cuda/nccl/ordered.cuh) has the fixed order of docs/design.md, section 4, point 3.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <tessera/bootstrap/launch.hpp>
#include <tessera/bootstrap/file.hpp>
#include <tessera/bootstrap/tcp.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/exec/executor.cuh>
#include <tessera/cuda/nccl/error.cuh>
#include <tessera/cuda/nccl/group.cuh>
#include <tessera/cuda/nccl/queue.cuh>

namespace tessera {

namespace nccl {

/// Checks what can fail on one rank before other ranks wait for it: the device and its driver. On rank 0 returns the id
/// for all ranks; elsewhere an empty id. Throws CommError, CudaError, OptionError.
inline ncclUniqueId prepared(const rendezvous::Member& me) {
  me.validate();
  static_cast<void>(Cuda());
  ncclUniqueId id{};
  if (me.rank == 0) check(ncclGetUniqueId(&id), "creating an id for all ranks");
  return id;
}

}  // namespace nccl

/// A handle of one rank: copies are the same rank. Each queue has its own communicator, so that gathers and reductions
/// do not wait for each other. Every rank posts to the queues in the same order.
///
/// Buffers of its executor come from ncclMemAlloc and are registered; the caller's buffers are used without
/// registration. Symmetric windows are not used: their registration is collective, and if one rank's allocation failed,
/// the other ranks would wait forever.
class Nccl {
 public:
  using Executor = Cuda;
  static constexpr bool ordered = false;
  static constexpr bool has_groups = true;

  using Queue = nccl::Queue;

  template <class In, class Out>
  static constexpr bool needs_workspace = Queue::needs_workspace<In, Out>;

  /// The default time limit for all ranks to start.
  static constexpr std::chrono::nanoseconds start = std::chrono::seconds(600);

  /// Uses a framework's communicator and the compute stream of its device. Both must outlive this and all copies. The
  /// communicator is only split (ncclCommSplit, one color), once per queue, in the same order on all ranks.
  /// Throws CommError, CudaError.
  Nccl(ncclComm_t existing, cudaStream_t compute) : Nccl(std::make_shared<nccl::Group>(existing), compute) {}

  /// Uses an id that rank 0 created (ncclGetUniqueId) and sent to all ranks, on the current device. The compute stream
  /// is its own; see on(). Blocks until all ranks have arrived. Throws CommError, CudaError, OptionError.
  Nccl(const ncclUniqueId& id, int rank, int world, std::chrono::nanoseconds timeout = start)
      : Nccl(joined(id, {rank, world, timeout}), std::nullopt) {}

  /// For processes started by torchrun or with the same environment variables (bootstrap/launch.hpp). Sets the calling
  /// thread's device to LOCAL_RANK. Rank 0 sends the id over TCP at MASTER_ADDR, port MASTER_PORT + 1: torchrun listens
  /// on MASTER_PORT. Ranks of another job (Launch::job) are rejected. Blocks until all ranks have arrived. Throws
  /// OptionError that names the variable, CommError that names the missing ranks, CudaError.
  static Nccl from_environment(std::chrono::nanoseconds timeout = start) {
    const Launch launch = Launch::from_environment();
    if (launch.master_port == 65535) throw OptionError("environment: MASTER_PORT is 65535: the next port is needed");
    use_device("LOCAL_RANK", launch.local_rank);
    const rendezvous::TcpPlace place{launch.master_address, launch.master_port + 1, launch.job};
    return from_broadcast(
        launch.rank, launch.world,
        [&](std::span<std::byte> id) {
          rendezvous::over_tcp(place, {launch.rank, launch.world, timeout}, id);
        },
        timeout);
  }

  /// Exchanges the id through files whose names begin with `path`, in a folder that all ranks can access
  /// (bootstrap/file.hpp), on the current device. Ranks must be of one run (run_from_environment()). Blocks and throws
  /// as from_environment().
  static Nccl from_file(const std::string& path, int rank, int world, std::chrono::nanoseconds timeout = start) {
    return from_broadcast(
        rank, world,
        [&](std::span<std::byte> id) {
          rendezvous::over_file(path, {rank, world, timeout}, id, run_from_environment());
        },
        timeout);
  }

  /// broadcast(bytes) must copy rank 0's bytes to all ranks. It should have a timeout: a rank without a device throws
  /// before it calls broadcast. Uses the current device. (With MPI: cuda/nccl/mpi.cuh.)
  template <class Broadcast>
  static Nccl from_broadcast(int rank, int world, const Broadcast& broadcast,
                             std::chrono::nanoseconds timeout = start) {
    ncclUniqueId id = nccl::prepared({rank, world, timeout});
    broadcast(std::as_writable_bytes(std::span(&id, 1)));
    return Nccl(id, rank, world, timeout);
  }

  int rank() const noexcept { return group_->rank(); }
  int size() const noexcept { return group_->world(); }
  Cuda executor() const { return executor_; }
  /// Blocks until all ranks have created theirs. Throws CommError, CudaError.
  Queue queue(std::chrono::nanoseconds timeout) const { return Queue(group_, timeout); }

  /// The same rank with the caller's compute stream, which is on the rank's device and outlives the result.
  Nccl on(cudaStream_t compute) const { return Nccl(group_, compute); }

 private:
  // compute: without a value, an own stream; null is the device's default stream, as in CUDA.
  Nccl(std::shared_ptr<nccl::Group> group, std::optional<cudaStream_t> compute)
      : Nccl(group, compute, device::Use(group->device())) {}
  Nccl(std::shared_ptr<nccl::Group> group, std::optional<cudaStream_t> compute, const device::Use&)
      : group_(std::move(group)),
        executor_(compute ? *compute : group_->own_stream(), std::make_shared<nccl::RegisteredMemory>(group_)) {}

  static std::shared_ptr<nccl::Group> joined(const ncclUniqueId& id, const rendezvous::Member& me) {
    me.validate();
    return std::make_shared<nccl::Group>(id, me.rank, me.world, me.timeout);
  }

  static void use_device(const char* variable, int wanted) {
    int devices = 0;
    cuda_check(cudaGetDeviceCount(&devices), "counting CUDA devices");
    if (wanted >= devices)
      throw OptionError(
          message({"environment: ", variable, " is ", wanted, ", but this process sees ", devices, " CUDA devices"}));
    cuda_check(cudaSetDevice(wanted), "choosing a CUDA device");
  }

  std::shared_ptr<nccl::Group> group_;
  Cuda executor_;
};

}  // namespace tessera
