// One collective of Local while ranks join it, and each rank's share of the work. Tasks read the peers' buffers
// directly; each rank's task writes memory that no other task accesses.
#pragma once

#include <cstring>

#include <tessera/comm/local/call.hpp>
#include <tessera/comm/tree.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::local {

/// One piece of an operation, as a task gets it.
struct PieceOfCall {
  index_t elements = 0;  // of the whole vector
  index_t part = 0;
  core::Groups groups{};  // of the ranks that the call is over: they assign the slices
  int root = 0;
  float scale = 1;
  Carry carry{};
  index_t element_bytes = 0;  // of the result
};

/// The buffers of the ranks that a call is over, in the order of ranks.
class EndsOfRanks {
 public:
  EndsOfRanks(const Ends* first, int stride, int ranks) noexcept : first_(first), stride_(stride), ranks_(ranks) {}

  int size() const noexcept { return ranks_; }
  const Ends& operator[](int rank) const noexcept { return first_[rank * stride_]; }

 private:
  const Ends* first_;
  int stride_;
  int ranks_;
};

/// One call and the ranks that have joined it.
struct Operation {
  Call call;
  int first = -1;  // the rank that joined first; the others must make the same call
  int joined = 0;
  int tasks_left = 0;
  core::Clock::time_point began{};  // set if a rank records a timeline
  core::List<Ends> ends;     // [piece * world + rank]
  core::List<RankEvents> events;

  int world() const noexcept { return static_cast<int>(events.size()); }
  index_t bytes() const noexcept { return call.elements() * call.in.bytes * world(); }

  /// Called by the rank that joins first.
  void begin(int rank, int world, const Call& its_call) {
    first = rank;
    call = its_call;
    ends.resize(call.pieces.size() * to_size(world));
    ends.fill({});
    events.resize(to_size(world));
  }

  /// A rank that has joined with another call than `rank`'s, or -1.
  int differs(int rank, const RankCall& of_rank) const noexcept {
    if (!call.same_as(of_rank.call)) return first;
    if (call.over == Ranks::world) return -1;
    const core::Groups all = groups();
    for (int r = all.first(call.over, rank), n = all.ranks(call.over); n > 0; --n, r += all.stride(call.over))
      for (std::size_t k = 0; k < of_rank.ends.size(); ++k)
        if (const index_t its = elements(k, r); its >= 0 && its != of_rank.ends[k].elements) return r;
    return -1;
  }
  /// The call as `rank`, which has joined, made it.
  Call call_of(int rank) const {
    Call its = call;
    for (std::size_t k = 0; k < its.pieces.size(); ++k) its.pieces[k].elements = elements(k, rank);
    return its;
  }
  void join(int rank, const RankCall& of_rank) {
    for (std::size_t k = 0; k < of_rank.ends.size(); ++k) ends[k * events.size() + to_size(rank)] = of_rank.ends[k];
    events[to_size(rank)] = of_rank.events;
    ++joined;
  }

  core::Groups groups() const noexcept { return {world(), call.group_size}; }

  /// Calls f(piece, its buffers on the ranks that `rank`'s call is over) for each piece.
  template <class F>
  void for_each_piece(int rank, const F& f) const {
    const core::Groups all = groups();
    const int ranks = all.ranks(call.over), first_of_set = all.first(call.over, rank);
    for (std::size_t k = 0; k < call.pieces.size(); ++k)
      f(PieceOfCall{elements(k, first_of_set), call.pieces[k].part,
                    call.over == Ranks::world ? all : core::Groups{ranks, 1}, call.root, call.scale, call.carry,
                    call.out.bytes},
        EndsOfRanks(&ends[k * events.size() + to_size(first_of_set)], all.stride(call.over), ranks));
  }

  void run(int rank) const { call.task(*this, rank); }

 private:
  index_t elements(std::size_t piece, int rank) const noexcept {
    return ends[piece * events.size() + to_size(rank)].elements;
  }
};

template <class T>
const T* input(const Ends& ends) noexcept {
  return static_cast<const T*>(ends.in);
}

template <class T>
T* output(const Ends& ends) noexcept {
  return static_cast<T*>(ends.out);
}

inline void copy(void* to, const void* from, index_t bytes) noexcept {
  if (bytes > 0 && to != from) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

template <class In, class Out>
void reduce_scatter(const PieceOfCall& call, const EndsOfRanks& ranks, int rank) {
  const Slice slice(call.elements, call.part, call.groups.slice(Ranks::world, rank));
  const Ends& own = ranks[rank];
  continue_sum_in_tree(
      own.sums, call.carry.stride, call.carry.before, min(call.carry.leaves, ranks.size()), call.carry.last, slice.size,
      [&](int r) { return input<In>(ranks[r]) + slice.begin; }, output<Out>(own), call.scale);
}

inline void all_gather(const PieceOfCall& call, const EndsOfRanks& ranks, int rank) {
  for (int r = 0; r < ranks.size(); ++r) {
    const Slice slice(call.elements, call.part, call.groups.slice(Ranks::world, r));
    copy(output<char>(ranks[rank]) + slice.begin * call.element_bytes, ranks[r].in, slice.size * call.element_bytes);
  }
}

// Each element is assigned to one task, which reads it on all ranks before it writes it on any.
template <class T>
void all_reduce(const PieceOfCall& call, const EndsOfRanks& ranks, int rank) {
  const Slice slice(call.elements, ceil_div(call.elements, ranks.size()), rank);
  TreeSum<SumType<T>> sum;
  for (index_t done = 0; done < slice.size; done += sum.chunk) {
    const index_t begin = slice.begin + done;
    const index_t size = min(sum.chunk, slice.size - done);
    const auto* total = sum(ranks.size(), size, [&](int r) { return output<const T>(ranks[r]) + begin; });
    for (int r = 0; r < ranks.size(); ++r)
      exec::vectorize(0, size,
                      [to = output<T>(ranks[r]) + begin, total](index_t i) { to[i] = static_cast<T>(total[i]); });
  }
}

inline void all_to_all(const PieceOfCall& call, const EndsOfRanks& ranks, int rank) {
  const index_t bytes = call.elements / ranks.size() * call.element_bytes;
  for (int r = 0; r < ranks.size(); ++r)
    copy(output<char>(ranks[rank]) + r * bytes, input<char>(ranks[r]) + rank * bytes, bytes);
}

inline void broadcast(const PieceOfCall& call, const EndsOfRanks& ranks, int rank) {
  copy(ranks[rank].out, ranks[call.root].out, call.elements * call.element_bytes);
}

/// Runs `task` for the rank's share of each piece.
template <auto task>
void on_each_piece(const Operation& operation, int rank) {
  const int index = operation.groups().index(operation.call.over, rank);
  operation.for_each_piece(rank, [index](const PieceOfCall& piece, const EndsOfRanks& ranks) { task(piece, ranks, index); });
}

/// The task of a rank for a call in host memory.
template <CollectiveCall C>
constexpr RankTask host_task() noexcept {
  using In = typename C::Input;
  if constexpr (C::kind == Collective::reduce_scatter)
    return on_each_piece<reduce_scatter<In, typename C::Output>>;
  else if constexpr (C::kind == Collective::all_gather)
    return on_each_piece<all_gather>;
  else if constexpr (C::kind == Collective::all_reduce)
    return on_each_piece<all_reduce<In>>;
  else if constexpr (C::kind == Collective::all_to_all)
    return on_each_piece<all_to_all>;
  else
    return on_each_piece<broadcast>;
}

}  // namespace tessera::local
