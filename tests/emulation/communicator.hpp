// A rank of a clique: its handle, its calls that are not on a stream yet, and its state.
#pragma once

#include <set>
#include <string>
#include <tuple>

#include "clique.hpp"

namespace emulated {

struct Split;

}  // namespace emulated

struct ncclComm {
  std::shared_ptr<emulated::Clique> clique;  // null: a split that not all ranks have joined
  int rank = 0, device = 0;
  bool blocking = true, aborted = false, finalized = false, active = false;
  ncclResult_t failed = ncclSuccess;
  std::uint64_t collective = 0;  // the number of the next one
  std::size_t splits = 0;
  std::map<std::size_t, std::shared_ptr<emulated::Split>> unfinished_splits;
  std::shared_ptr<emulated::Moment> last;  // calls of one communicator run in order
  std::vector<std::pair<cudaStream_t, emulated::Operation>> deferred;
  std::set<void*> registered;
  struct ScaledSum {
    ncclDataType_t type;
    double factor;
  };
  std::map<int, ScaledSum> scaled_sums;  // by ncclRedOp_t
  std::weak_ptr<void> graphs;            // held by every captured call, and so by its graphs
};

namespace emulated {

using Communicator = std::shared_ptr<ncclComm>;

// The state that the children of one ncclCommSplit share.
struct Split {
  struct Entry {
    int color, key, rank;
    Communicator child;
  };
  std::vector<Entry> entries;
  bool formed = false;

  void form() {
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::tie(a.color, a.key, a.rank) < std::tie(b.color, b.key, b.rank);
    });
    for (auto first = entries.begin(); first != entries.end();) {
      const auto end = std::find_if(first, entries.end(), [&](const Entry& e) { return e.color != first->color; });
      const int ranks = static_cast<int>(end - first);
      const auto clique = std::make_shared<Clique>(ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        const Entry& entry = first[rank];
        if (!entry.child) continue;  // NCCL_SPLIT_NOCOLOR
        entry.child->clique = clique;
        entry.child->rank = rank;
        clique->devices[static_cast<std::size_t>(rank)] = entry.child->device;
        clique->joined++;
      }
      first = end;
    }
    formed = true;
    machine().changed.notify_all();
  }
};

struct Nccl {
  std::map<ncclComm_t, Communicator> communicators;
  std::map<std::string, std::shared_ptr<Clique>> cliques;                          // by unique id
  std::map<std::pair<const Clique*, std::size_t>, std::shared_ptr<Split>> splits;  // by parent and number
  std::uint64_t ids = 0;
  std::uintptr_t registrations = 0;
};

inline Nccl& nccl() {
  static Nccl& it = *new Nccl;
  return it;
}

// A freed handle: NCCL would read freed memory.
inline Communicator live(ncclComm_t handle, const char* call) {
  const auto at = nccl().communicators.find(handle);
  if (at != nccl().communicators.end()) return at->second;
  std::fprintf(stderr, "emulated NCCL: %s is given a communicator that was destroyed, aborted or never made\n", call);
  std::abort();
}

// Whether a graph has calls of it: NCCL destroys a communicator only after its graphs; destroying or aborting it waits.
inline bool in_graphs(const ncclComm& comm) { return !comm.graphs.expired(); }

// The reference that a captured call holds.
inline std::shared_ptr<void> graph_reference(ncclComm& comm) {
  std::shared_ptr<void> reference = comm.graphs.lock();
  if (reference == nullptr) {
    reference = std::shared_ptr<void>(&machine(), [](void*) { machine().changed.notify_all(); });
    comm.graphs = reference;
  }
  return reference;
}

// The result of ncclCommGetAsyncError.
inline ncclResult_t state(const ncclComm& comm) {
  if (comm.failed != ncclSuccess) return comm.failed;
  if (comm.clique == nullptr || comm.clique->joined < comm.clique->ranks) return ncclInProgress;
  if (comm.clique->two_on_one_device()) return ncclInvalidUsage;
  for (const auto& [number, split] : comm.unfinished_splits) {
    if (!split->formed) return ncclInProgress;
  }
  if (!comm.deferred.empty()) return ncclInProgress;
  if (comm.finalized && in_graphs(comm)) return ncclInProgress;
  const bool running = comm.active || (comm.last && !comm.last->capture && !comm.last->happened);
  return comm.finalized && running ? ncclInProgress : ncclSuccess;
}

// A communicator that is busy with an earlier call accepts no other.
inline ncclResult_t ready(const ncclComm& comm) {
  const ncclResult_t now = comm.finalized ? ncclInvalidArgument : state(comm);
  return now == ncclInProgress ? ncclInvalidArgument : now;
}

// The calls of one group on one stream, in flight.
class Launch {
 public:
  Launch(Communicator comm, std::vector<Part> parts, std::shared_ptr<void> graph_reference)
      : comm_(std::move(comm)), parts_(std::move(parts)), graph_reference_(std::move(graph_reference)) {}

  Progress operator()() {
    if (comm_->aborted) return Progress::done;  // without touching memory
    if (posted_.empty()) {
      if (comm_->active) return Progress::blocked;
      comm_->active = true;
      for (const Part& part : parts_) {
        posted_.push_back(std::make_shared<Posted>(Posted{part}));
        comm_->clique->post(comm_->rank, comm_->collective, posted_.back());
      }
      return Progress::more;
    }
    if (std::all_of(posted_.begin(), posted_.end(), [](const PostedPtr& posted) { return posted->done; })) {
      comm_->active = false;
      return Progress::done;
    }
    return comm_->clique->go_on() ? Progress::more : Progress::blocked;
  }

 private:
  Communicator comm_;
  std::vector<Part> parts_;
  std::shared_ptr<void> graph_reference_;  // null: not captured
  std::vector<PostedPtr> posted_;          // empty until the operation is first on the stream
};

inline ncclResult_t put(ncclComm& comm, Stream& stream, Operation operation) {
  const auto failed = [](cudaError_t error) { return error != cudaSuccess; };
  if (comm.last && comm.last->capture == stream.capture && failed(wait_for(stream, comm.last))) {
    return ncclUnhandledCudaError;
  }
  if (failed(enqueue(stream, std::move(operation))) || failed(record(stream, comm.last))) return ncclUnhandledCudaError;
  return ncclSuccess;
}

// A non-blocking communicator may put its calls on the stream later, as NCCL may, and is in progress until then.
inline ncclResult_t launch(const Communicator& comm, cudaStream_t handle, std::vector<Part> parts) {
  if (const ncclResult_t now = ready(*comm); now != ncclSuccess) return now;
  const StreamPtr stream = find(handle);
  if (stream == nullptr) return ncclInvalidArgument;
  const char* name = parts.size() == 1 ? name_of(parts.front().kind) : "group of NCCL calls";
  Operation operation{name, Launch(comm, std::move(parts), stream->capture ? graph_reference(*comm) : nullptr)};
  if (comm->blocking || stream->capture || machine().draw(2) == 0) return put(*comm, *stream, std::move(operation));
  comm->deferred.emplace_back(handle, std::move(operation));
  return ncclInProgress;
}

// Puts deferred calls on their streams, or leaves them deferred.
inline void catch_up(ncclComm& comm) {
  if (comm.deferred.empty() || machine().draw(2) == 0) return;
  for (auto& [handle, operation] : comm.deferred) {
    const StreamPtr stream = find(handle);
    if (stream == nullptr || put(comm, *stream, std::move(operation)) != ncclSuccess) {
      comm.failed = ncclUnhandledCudaError;
    }
  }
  comm.deferred.clear();
}

}  // namespace emulated
