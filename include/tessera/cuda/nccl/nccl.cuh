// Ranks as processes, a device each, joined by NCCL. Sums are NCCL's own, whose order and bits it promises nothing of;
// Ordered<Nccl> (cuda/nccl/ordered.cuh) has those of design section 4.3.
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

/// What is seen to before other ranks are kept waiting: a device and its driver, and on rank 0 the id that all are to
/// be given; the others' is empty. Throws CommError, CudaError, OptionError.
inline ncclUniqueId prepared(const rendezvous::Member& me) {
  me.validate();
  static_cast<void>(Cuda());
  ncclUniqueId id{};
  if (me.rank == 0) check(ncclGetUniqueId(&id), "making an id for all ranks");
  return id;
}

}  // namespace nccl

/// A handle of one rank: copies are the same rank. Its queues have communicators of their own, so that gathers and
/// reductions do not wait for each other: every rank posts to them in the same order.
///
/// Buffers that its executor allocates come from ncclMemAlloc and are registered; those of the caller go NCCL's common
/// way. Symmetric windows are not used: their registration is collective, and a rank whose allocation fails would leave
/// the others waiting.
class Nccl {
 public:
  using Executor = Cuda;
  static constexpr bool ordered = false;
  static constexpr bool has_groups = true;

  using Queue = nccl::Queue;

  template <class In, class Out>
  static constexpr bool needs_workspace = Queue::needs_workspace<In, Out>;

  /// How long a rank waits for the others to start, by default.
  static constexpr std::chrono::nanoseconds start = std::chrono::seconds(600);

  /// On a framework's communicator and the compute stream of its device; both outlive this and all copies, and are left
  /// alone: each queue is split from it (ncclCommSplit, all ranks in one color), which all ranks do in the same order.
  /// Throws CommError, CudaError.
  Nccl(ncclComm_t existing, cudaStream_t compute) : Nccl(std::make_shared<nccl::Group>(existing), compute) {}

  /// Of an id that rank 0 made (ncclGetUniqueId) and all were given, on the current device, computing on a stream of
  /// its own; on() changes that. Blocks until all ranks have come. Throws CommError, CudaError, OptionError.
  Nccl(const ncclUniqueId& id, int rank, int world, std::chrono::nanoseconds timeout = start)
      : Nccl(joined(id, {rank, world, timeout}), std::nullopt) {}

  /// Started by torchrun, or by whoever sets its variables (bootstrap/launch.hpp). Chooses the device LOCAL_RANK for the
  /// calling thread. Rank 0 gives the id to all over TCP at MASTER_ADDR, port MASTER_PORT + 1: torchrun itself listens
  /// on MASTER_PORT. Who is of another job (Launch::job) is sent away. Blocks until all ranks have come. Throws
  /// OptionError that names the variable, CommError that names the ranks missing, CudaError.
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

  /// Through files that begin with `path`, in a folder that all ranks see (bootstrap/file.hpp), on the current
  /// device. Ranks are of one run (run_from_environment()). Blocks and throws likewise.
  static Nccl from_file(const std::string& path, int rank, int world, std::chrono::nanoseconds timeout = start) {
    return from_broadcast(
        rank, world,
        [&](std::span<std::byte> id) {
          rendezvous::over_file(path, {rank, world, timeout}, id, run_from_environment());
        },
        timeout);
  }

  /// broadcast(bytes) brings the bytes of rank 0 to all, by whatever the program is started with. It should have a
  /// limit of its own: a rank without a device throws before. On the current device. (With MPI: cuda/nccl/mpi.cuh.)
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
  /// Blocks until all ranks have made theirs. Throws CommError, CudaError.
  Queue queue(std::chrono::nanoseconds timeout) const { return Queue(group_, timeout); }

  /// The same rank, computing on the caller's stream, which is of the rank's device and outlives it.
  Nccl on(cudaStream_t compute) const { return Nccl(group_, compute); }

 private:
  // compute: none stands for a stream of its own; null is the device's default stream, as everywhere.
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
