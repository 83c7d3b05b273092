// The queue of Nccl: which of NCCL's calls make a collective, and what is summed here. nccl_line.cuh sends them.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/local/call.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/nccl/error.cuh>
#include <tessera/cuda/nccl/group.cuh>
#include <tessera/cuda/collectives/staged_sum.cuh>

namespace tessera::nccl {

/// What NCCL sums by: a plain sum, or one that first multiplies what this rank brings by a factor, rounded to T. Lives
/// until the calls that are given it have returned. Source: NCCL, ncclRedOpCreatePreMulSum.
template <class T>
class ScaledSum {
 public:
  ScaledSum(float scale, ncclComm_t comm, FirstError& error) : comm_(comm), error_(error) {
    T factor(scale);
    if (scale != 1)
      error_(ncclRedOpCreatePreMulSum(&operation_, &factor, sum_type<T>(), ncclScalarHostImmediate, comm_));
  }
  ScaledSum(const ScaledSum&) = delete;
  ScaledSum& operator=(const ScaledSum&) = delete;
  ~ScaledSum() {
    if (operation_ != ncclSum) error_(ncclRedOpDestroy(operation_, comm_));
  }

  ncclRedOp_t operation() const noexcept { return operation_; }

 private:
  ncclComm_t comm_;
  FirstError& error_;
  ncclRedOp_t operation_ = ncclSum;
};

/// See CommunicationQueue. Posting enqueues on a stream of high priority and never waits for the device; the first
/// collective of a kind may wait for the other ranks, as NCCL connects them. Can be captured in a CUDA graph, by all
/// ranks alike, once each kind of collective has run.
///
/// A collective that is not done in time, counted from when the stream has come to it, or an error that NCCL reports,
/// aborts the communicator: the stream goes on, over memory that is then of any content, and every call and wait throws
/// CommError that names the collective. NCCL cannot say which rank was missing. So does a rank that drops alone: the
/// others learn of it from their timeout.
///
/// drop() waits for what this rank has posted, until the others join it or the timeout ends it. The next call then
/// makes a new communicator and blocks until all ranks have dropped too: graphs captured before must not be launched.
class Queue {
 public:
  using Event = CudaEvent;

  /// Whether a reduction needs lend()'s memory: NCCL sums into the type that it reads.
  template <class In, class Out>
  static constexpr bool stages = !std::same_as<In, Out>;

  /// Blocks until all ranks have made theirs. Throws CommError, CudaError.
  Queue(std::shared_ptr<Group> group, std::chrono::nanoseconds timeout)
      : group_(std::move(group)),
        line_(group_->open(timeout)),
        multiprocessors_(device::multiprocessors(group_->device())) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() { group_->close(*line_); }

  /// Where NCCL sums, it multiplies what each rank brings by `scale`, rounded to the type, before the sum.
  template <class In, class Out>
  Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag,
                       const Event& after = {}) {
    if constexpr (stages<In, Out>) {
      return ordered_reduce_scatter(in, out, part, scale, tag, after);
    } else {
      check_slices("reduce_scatter", std::ssize(in), part, world(), std::ssize(out), rank());
      return line_->post(reduction<In, Out>(std::ssize(in), part, scale, tag), after, [&](auto& turn) {
        turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
          constexpr ncclDataType_t type = sum_type<In>();
          const ScaledSum<In> sum(scale, comm, error);
          if (std::ssize(in) == part * world())
            return error(ncclReduceScatter(in.data(), out.data(), count(part), type, sum.operation(), comm, stream));
          // The last parts are short or empty. A reduction to each rank moves as many bytes, in one kernel.
          each_slice(std::ssize(in), part, [&](int root, const Slice& slice) {
            error(ncclReduce(in.data() + slice.begin, root == rank() ? out.data() : nullptr, count(slice.size), type,
                             sum.operation(), root, comm, stream));
          });
        });
      });
    }
  }

  /// The same in the fixed tree of design section 4.3: every rank is sent what the others have of its slice, and sums
  /// it in fp32, or in double. Needs lend().
  template <class In, class Out>
  Event ordered_reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag,
                               const Event& after = {}) {
    check_slices("reduce_scatter", std::ssize(in), part, world(), std::ssize(out), rank());
    In* const staged = staging<In>(part);
    return line_->post(reduction<In, Out>(std::ssize(in), part, scale, tag), after, [&](auto& turn) {
      const Slice own(std::ssize(in), part, rank());
      turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
        each_slice(std::ssize(in), part, [&](int peer, const Slice& slice) {
          if (peer != rank())
            error(ncclSend(in.data() + slice.begin, bytes_of<In>(slice.size), raw, peer, comm, stream));
        });
        for (int peer = 0; peer < world() && own.size > 0; ++peer)
          if (peer != rank()) error(ncclRecv(staged + peer * part, bytes_of<In>(own.size), raw, peer, comm, stream));
      });
      collectives::staged_sum<In, Out>(
          {staged, in.data() + own.begin, out.data(), part, own.size, rank(), world(), scale}, share(turn.stream()));
    });
  }

  template <class T>
  Event all_gather(std::span<const T> in, std::span<T> out, index_t part, Tag tag, const Event& after = {}) {
    check_slices("all_gather", std::ssize(out), part, world(), std::ssize(in), rank());
    return post<T>(Collective::all_gather, std::ssize(out), part, 0, tag, after, [&](auto& turn) {
      turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
        if (std::ssize(out) == part * world())
          return error(ncclAllGather(in.data(), out.data(), bytes_of<T>(part), raw, comm, stream));
        each_slice(std::ssize(out), part, [&](int root, const Slice& slice) {
          T* const to = out.data() + slice.begin;
          error(ncclBroadcast(root == rank() ? in.data() : to, to, bytes_of<T>(slice.size), raw, root, comm, stream));
        });
      });
    });
  }

  template <class T>
  Event all_reduce(std::span<T> inout, Tag tag, const Event& after = {}) {
    return post<T>(Collective::all_reduce, std::ssize(inout), 0, 0, tag, after, [&](auto& turn) {
      turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
        if (!inout.empty())
          error(ncclAllReduce(inout.data(), inout.data(), inout.size(), sum_type<T>(), ncclSum, comm, stream));
      });
    });
  }

  /// The same in the fixed tree. Needs lend() for a vector a rank.
  template <class T>
  Event ordered_all_reduce(std::span<T> inout, Tag tag, const Event& after = {}) {
    const index_t n = std::ssize(inout);
    T* const staged = staging<T>(n);
    return post<T>(Collective::all_reduce, n, 0, 0, tag, after, [&](auto& turn) {
      turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
        if (n > 0) error(ncclAllGather(inout.data(), staged, bytes_of<T>(n), raw, comm, stream));
      });
      collectives::staged_sum<T, T>({staged, inout.data(), inout.data(), n, n, rank(), world()}, share(turn.stream()));
    });
  }

  template <class T>
  Event all_to_all(std::span<const T> in, std::span<T> out, Tag tag, const Event& after = {}) {
    check_all_to_all(std::ssize(in), std::ssize(out), world());
    return post<T>(Collective::all_to_all, std::ssize(in), 0, 0, tag, after, [&](auto& turn) {
      turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
        const index_t part = std::ssize(in) / world();
        for (int peer = 0; peer < world() && part > 0; ++peer) {
          error(ncclSend(in.data() + peer * part, bytes_of<T>(part), raw, peer, comm, stream));
          error(ncclRecv(out.data() + peer * part, bytes_of<T>(part), raw, peer, comm, stream));
        }
      });
    });
  }

  template <class T>
  Event broadcast(std::span<T> inout, int root, Tag tag, const Event& after = {}) {
    check_root(root, world());
    return post<T>(Collective::broadcast, std::ssize(inout), 0, root, tag, after, [&](auto& turn) {
      turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
        if (!inout.empty())
          error(ncclBroadcast(inout.data(), inout.data(), inout.size_bytes(), raw, root, comm, stream));
      });
    });
  }

  /// Memory of the device for reductions that need it (stages), used by one after another: bytes of world * part
  /// elements that are read, at a 16-byte border. It outlives the queue's work.
  void lend(std::span<std::byte> staging) noexcept { staging_ = staging; }

  /// What is posted from now on runs behind what another stream of the device was given so far.
  void join(cudaStream_t producer) { line_->join(producer); }

  void drop() noexcept { line_->drop(); }

 private:
  int rank() const noexcept { return group_->rank(); }
  int world() const noexcept { return group_->world(); }

  template <class In, class Out>
  static local::Call reduction(index_t elements, index_t part, float scale, Tag tag) {
    return {.kind = Collective::reduce_scatter,
            .in = element_type<In>(),
            .out = element_type<Out>(),
            .elements = elements,
            .part = part,
            .tag = tag,
            .scale = scale};
  }

  template <class T, class Calls>
  Event post(Collective kind, index_t elements, index_t part, int root, Tag tag, const Event& after,
             const Calls& calls) {
    const local::Call call{.kind = kind,
                           .in = element_type<T>(),
                           .out = element_type<T>(),
                           .elements = elements,
                           .part = part,
                           .root = root,
                           .tag = tag};
    return line_->post(call, after, calls);
  }

  // Those that are not empty. The same on all ranks.
  template <class F>
  void each_slice(index_t elements, index_t part, const F& f) const {
    for (int r = 0; r < world(); ++r)
      if (const Slice slice(elements, part, r); slice.size > 0) f(r, slice);
  }

  // For as many elements of each rank; alone a rank needs none.
  template <class T>
  T* staging(index_t part) const {
    const index_t elements = world() > 1 ? world() * part : 0;
    if (world() > collectives::most_staged_ranks)
      throw OptionError(
          message({"an ordered sum has at most ", collectives::most_staged_ranks, " ranks, not ", world()}));
    if (staging_.size() < bytes_of<T>(elements))
      throw BufferError(
          message({"a reduction in fixed order of ", elements, " ", element_type<T>().name, " was lent ",
                   staging_.size(), " bytes to stage them, and needs ", bytes_of<T>(elements), ": call lend()"}));
    return reinterpret_cast<T*>(staging_.data());
  }

  collectives::Share share(cudaStream_t stream) const noexcept {
    return {.stream = stream, .multiprocessors = multiprocessors_, .ranks = {}};
  }

  static std::size_t count(index_t elements) noexcept { return static_cast<std::size_t>(elements); }

  std::shared_ptr<Group> group_;
  std::shared_ptr<Line> line_;
  int multiprocessors_;
  std::span<std::byte> staging_;
};

}  // namespace tessera::nccl
