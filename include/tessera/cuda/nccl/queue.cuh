// The queue of Nccl: selects the NCCL calls of a collective and the sums that a kernel computes. nccl/channel.cuh runs
// them.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <chrono>
#include <concepts>
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

/// NCCL's operation for a sum: a plain sum, or a sum that first multiplies this rank's data by a factor, rounded to T.
/// Must live until the calls that use it have returned. Source: NCCL, ncclRedOpCreatePreMulSum.
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

/// See CommunicationQueue. Posting enqueues on a high-priority stream and never waits for the device. The first
/// collective of a kind may wait for the other ranks while NCCL connects them. Once each kind of collective has run,
/// all ranks may capture the same collectives in CUDA graphs.
///
/// The communicator is aborted if NCCL reports an error or a collective is not done within the timeout, counted from
/// when the stream reaches it. The stream then continues with undefined memory contents, and every call and wait throws
/// CommError that names the collective. NCCL does not report which rank was missing. A rank that drops alone has the
/// same effect: the others notice it by their timeout.
///
/// drop() waits until this rank's posted collectives are done or time out. The next call creates a new communicator and
/// blocks until all ranks have dropped too. Graphs captured before must not be launched again.
class Queue {
 public:
  using Event = CudaEvent;

  /// NCCL's sum has the type of its input. A sum of another type is computed by a kernel.
  template <class In, class Out>
  static constexpr bool needs_workspace = !std::same_as<In, Out>;

  /// Blocks until all ranks have created theirs. Throws CommError, CudaError.
  Queue(std::shared_ptr<Group> group, std::chrono::nanoseconds timeout)
      : group_(std::move(group)),
        channel_(group_->open(timeout)),
        multiprocessors_(device::multiprocessors(group_->device())) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() { group_->close(*channel_); }

  /// NCCL multiplies each rank's data by the call's scale, rounded to the type, before the sum. For InFixedOrder calls
  /// and sums of another type, every rank receives the others' data of its slice, and a kernel computes the sum.
  template <CollectiveCall Call>
  Event post(const Call& call, const Event& after = {}) {
    return post(std::span<const Call>(&call, 1), after);
  }

  /// All calls, with all of their pieces, form one NCCL group.
  template <CollectiveCall Call>
  Event post(std::span<const Call> calls, const Event& after = {}) {
    if (calls.empty()) return after;
    for (const Call& call : calls) require_fit(call);
    described_.set(calls.front());
    for (const Call& call : calls.subspan(1)) described_.add(call.pieces);
    return channel_->post(described_.call, after, [&](auto& turn) {
      turn.nccl([&](ncclComm_t comm, cudaStream_t stream, FirstError& error) {
        for (const Call& call : calls) send(call, {comm, stream, error});
      });
      if constexpr (sums_here<Call>)
        for (const Call& call : calls) sum(call, turn.stream());
    });
  }

  /// Later collectives wait for the work so far on another stream of the device.
  void join(cudaStream_t producer) { channel_->join(producer); }

  void drop() noexcept { channel_->drop(); }

 private:
  int rank() const noexcept { return group_->rank(); }
  int world() const noexcept { return group_->world(); }

  /// The further arguments of NCCL calls.
  struct To {
    ncclComm_t comm;
    cudaStream_t stream;
    FirstError& error;
  };

  template <class Call>
  static constexpr bool sums_here =
      in_fixed_order<Call> || (Call::kind == Collective::reduce_scatter &&
                               needs_workspace<typename Call::Input, typename Call::Output>);

  template <class Call>
  void require_fit(const Call& call) const {
    check_call(call, world(), rank());
    if (call.over != Ranks::world && Call::kind != Collective::all_gather)
      throw OptionError(message({name(Call::kind), communicator::ranks_text(call.over, call.group_size), " (",
                                 call.tag.text(), "): Nccl only gathers over groups and over peers"}));
    if constexpr (Call::kind == Collective::reduce_scatter && !sums_here<Call>)
      if (!call.carry.is_whole())
        throw OptionError(
            message({name(Call::kind), " (", call.tag.text(), ") continues a sum, which only ordered sums can"}));
    if constexpr (sums_here<Call>) {
      if (world() > collectives::most_staged_ranks)
        throw OptionError(
            message({"an ordered sum has at most ", collectives::most_staged_ranks, " ranks, not ", world()}));
      if (const index_t needed = workspace_bytes(call, world()); std::ssize(call.workspace) < needed)
        throw BufferError(message({name(Call::kind), " (", call.tag.text(), ") has a workspace of ",
                                   call.workspace.size(), " bytes and needs ", needed}));
    }
  }

  // Calls f(piece, the begin of its part of the workspace) for each piece.
  template <class Call, class F>
  void each_piece(const Call& call, const F& f) const {
    using In = typename Call::Input;
    auto* workspace = reinterpret_cast<In*>(call.workspace.data());
    for (const auto& piece : call.pieces) {
      f(piece, workspace);
      if (world() > 1) workspace += world() * stride<Call>(piece);
    }
  }

  // The distance between two ranks' data in a piece's workspace, in elements.
  template <class Call, class Piece>
  static index_t stride(const Piece& piece) noexcept {
    return Call::kind == Collective::reduce_scatter ? piece.part : std::ssize(piece.out);
  }

  template <class Call>
  void send(const Call& call, const To& to) const {
    if constexpr (sums_here<Call>)
      each_piece(call, [&](const auto& piece, auto* workspace) {
        if constexpr (Call::kind == Collective::reduce_scatter)
          exchange_slices(piece, call.groups(world()), workspace, to);
        else if (!piece.out.empty() && world() > 1)
          to.error(ncclAllGather(piece.in.data(), workspace, piece.out.size_bytes(), raw, to.comm, to.stream));
      });
    else if constexpr (Call::kind == Collective::reduce_scatter)
      reduce_scatter(call, to);
    else
      for (const auto& piece : call.pieces) {
        if constexpr (Call::kind == Collective::all_gather) all_gather(piece, call.over, call.groups(world()), to);
        if constexpr (Call::kind == Collective::all_reduce) all_reduce(piece, to);
        if constexpr (Call::kind == Collective::all_to_all) all_to_all(piece, to);
        if constexpr (Call::kind == Collective::broadcast) broadcast(piece, call.root, to);
      }
  }

  // The local part of a sum that a kernel computes.
  template <class Call>
  void sum(const Call& call, cudaStream_t stream) const {
    using In = typename Call::Input;
    using Out = typename Call::Output;
    each_piece(call, [&](const auto& piece, const In* workspace) {
      Slice own(std::ssize(piece.in), piece.part, call.groups(world()).slice(Ranks::world, rank()));
      float scale = 1;
      Carry carry{};
      if constexpr (Call::kind == Collective::reduce_scatter) {
        scale = call.scale;
        carry = call.carry;
      } else {
        own = Slice(std::ssize(piece.in), std::ssize(piece.in), 0);
      }
      collectives::staged_sum<In, Out>({workspace, piece.in.data() + own.begin, piece.out.data(), stride<Call>(piece),
                                        own.size, rank(), world(), scale, carry, piece.sums},
                                       share(stream));
    });
  }

  // Ranks without a leaf send too, since NCCL calls must match on all ranks. If ranks differ in their leaves, the
  // step's digest reports it.
  template <class T>
  void exchange_slices(const auto& piece, core::Groups groups, T* workspace, const To& to) const {
    const index_t own = Slice(std::ssize(piece.in), piece.part, groups.slice(Ranks::world, rank())).size;
    each_slice(std::ssize(piece.in), piece.part, groups, [&](int peer, const Slice& slice) {
      if (peer != rank())
        to.error(ncclSend(piece.in.data() + slice.begin, bytes_of<T>(slice.size), raw, peer, to.comm, to.stream));
    });
    for (int peer = 0; peer < world() && own > 0; ++peer)
      if (peer != rank())
        to.error(ncclRecv(workspace + peer * piece.part, bytes_of<T>(own), raw, peer, to.comm, to.stream));
  }

  template <class T>
  void reduce_scatter(const ReduceScatter<T, T>& call, const To& to) const {
    constexpr ncclDataType_t type = sum_type<T>();
    const ScaledSum<T> sum(call.scale, to.comm, to.error);
    for (const Piece<T>& piece : call.pieces) {
      const T* const in = piece.in.data();
      T* const out = piece.out.data();
      if (call.group_size == 1 && std::ssize(piece.in) == piece.part * world()) {
        to.error(ncclReduceScatter(in, out, to_size(piece.part), type, sum.operation(), to.comm, to.stream));
        continue;
      }
      // Parts are short, empty or not in the order of ranks. A reduction to each moves as many bytes, in one kernel.
      each_slice(std::ssize(piece.in), piece.part, call.groups(world()), [&](int root, const Slice& slice) {
        to.error(ncclReduce(in + slice.begin, root == rank() ? out : nullptr, to_size(slice.size), type, sum.operation(),
                            root, to.comm, to.stream));
      });
    }
  }

  template <class T>
  void all_gather(const Piece<T>& piece, Ranks over, core::Groups groups, const To& to) const {
    if (over != Ranks::world) return exchange_own_slices(piece, over, groups, to);
    const T* const in = piece.in.data();
    if (groups.size == 1 && std::ssize(piece.out) == piece.part * world())
      return to.error(ncclAllGather(in, piece.out.data(), bytes_of<T>(piece.part), raw, to.comm, to.stream));
    each_slice(std::ssize(piece.out), piece.part, groups, [&](int root, const Slice& slice) {
      T* const out = piece.out.data() + slice.begin;
      to.error(ncclBroadcast(root == rank() ? in : out, out, bytes_of<T>(slice.size), raw, root, to.comm, to.stream));
    });
  }

  // An all-gather among some ranks, on the communicator of all: NCCL would need one order of the calls on two of them.
  template <class T>
  void exchange_own_slices(const Piece<T>& piece, Ranks over, core::Groups groups, const To& to) const {
    const int first = groups.first(over, rank()), own = groups.index(over, rank());
    const index_t size = Slice(std::ssize(piece.out), piece.part, own).size;
    for (int k = 0; k < groups.ranks(over); ++k) {
      const int peer = first + k * groups.stride(over);
      const Slice slice(std::ssize(piece.out), piece.part, k);
      T* const out = piece.out.data() + slice.begin;
      if (k == own && out == piece.in.data()) continue;  // in place
      if (size > 0) to.error(ncclSend(piece.in.data(), bytes_of<T>(size), raw, peer, to.comm, to.stream));
      if (slice.size > 0) to.error(ncclRecv(out, bytes_of<T>(slice.size), raw, peer, to.comm, to.stream));
    }
  }

  template <class T>
  void all_reduce(const Piece<T>& piece, const To& to) const {
    if (!piece.out.empty())
      to.error(ncclAllReduce(piece.in.data(), piece.out.data(), piece.out.size(), sum_type<T>(), ncclSum, to.comm,
                             to.stream));
  }

  template <class T>
  void all_to_all(const Piece<T>& piece, const To& to) const {
    const index_t part = std::ssize(piece.in) / world();
    for (int peer = 0; peer < world() && part > 0; ++peer) {
      to.error(ncclSend(piece.in.data() + peer * part, bytes_of<T>(part), raw, peer, to.comm, to.stream));
      to.error(ncclRecv(piece.out.data() + peer * part, bytes_of<T>(part), raw, peer, to.comm, to.stream));
    }
  }

  template <class T>
  void broadcast(const Piece<T>& piece, int root, const To& to) const {
    if (!piece.out.empty())
      to.error(ncclBroadcast(piece.in.data(), piece.out.data(), piece.out.size_bytes(), raw, root, to.comm, to.stream));
  }

  // f(whose it is, slice) for those that are not empty. The same on all ranks.
  template <class F>
  void each_slice(index_t elements, index_t part, core::Groups groups, const F& f) const {
    for (int s = 0; s < world(); ++s)
      if (const Slice slice(elements, part, s); slice.size > 0) f(groups.owner(s), slice);
  }

  collectives::Share share(cudaStream_t stream) const noexcept {
    return {.stream = stream, .multiprocessors = multiprocessors_, .ranks = {}};
  }

  std::shared_ptr<Group> group_;
  std::shared_ptr<Channel> channel_;
  int multiprocessors_;
  local::RankCall described_;
};

}  // namespace tessera::nccl
