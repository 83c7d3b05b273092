// One collective of Local without its types: what a rank calls, where its buffers lie, and the part of the work that
// each rank does. Peers' buffers are read directly; each rank's task writes what no other task touches.
#pragma once

#include <cstring>
#include <span>
#include <string>

#include <tessera/comm/call.hpp>
#include <tessera/comm/tree.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::local {

/// Where one rank's buffers of a piece lie.
struct Ends {
  const void* in = nullptr;
  void* out = nullptr;
  float* sums = nullptr;  // of a reduce_scatter that continues
};

/// The events of a rank of CudaLocal: what the collective starts after, and what is recorded after it.
struct RankEvents {
  void* after = nullptr;
  void* done = nullptr;
};

struct PieceSize {
  index_t elements = 0;  // of the whole vector
  index_t part = 0;

  bool operator==(const PieceSize&) const = default;
};

struct Operation;

/// Does rank's part of the operation. May throw an Error, which ends the group, where it is run by the rank that comes
/// last.
using RankTask = void (*)(const Operation& operation, int rank);

/// What has to be the same on all ranks, and how it is done.
struct Call {
  Collective kind{};
  ElementType in{};
  ElementType out{};
  core::List<PieceSize> pieces{};
  int root = 0;
  Tag tag{};
  RankTask task = nullptr;
  void* context = nullptr;  // what the task needs besides
  float scale = 1;          // of a reduce_scatter's sum
  Carry carry{};            // the same; its sums are each rank's own

  index_t elements() const noexcept {
    index_t sum = 0;
    for (const PieceSize& piece : pieces) sum += piece.elements;
    return sum;
  }

  bool same_as(const Call& other) const noexcept {
    return kind == other.kind && in.bytes == other.in.bytes && out.bytes == other.out.bytes &&
           std::strcmp(in.name, other.in.name) == 0 && std::strcmp(out.name, other.out.name) == 0 &&
           pieces == other.pieces && root == other.root && carry.before == other.carry.before &&
           carry.leaves == other.carry.leaves && carry.last == other.carry.last && tag.index == other.tag.index &&
           tag.pass == other.tag.pass && std::strcmp(tag.what, other.tag.what) == 0;
  }

  /// "reduce_scatter of 4096 bfloat16 in parts of 1024 (gradients of bucket 3, pass 2)"; of several pieces "of 4096 and
  /// 64 bfloat16 in parts of 1024 and 16".
  std::string text() const {
    std::string text = message({name(kind), " of ", of_pieces(&PieceSize::elements), " ", in.name});
    if (std::strcmp(in.name, out.name) != 0) text += message({" to ", out.name});
    if (kind == Collective::reduce_scatter || kind == Collective::all_gather)
      text += message({" in parts of ", of_pieces(&PieceSize::part)});
    if (scale != 1) text += message({" times ", static_cast<double>(scale)});
    if (carry.leaves != Carry::every_rank) text += message({", of the first ", carry.leaves, " ranks"});
    if (carry.before > 0) text += message({", added to ", carry.before, " before"});
    if (!carry.last) text += ", to be continued";
    if (kind == Collective::broadcast) text += message({" from rank ", root});
    return text + message({" (", tag.text(), ")"});
  }

 private:
  std::string of_pieces(index_t PieceSize::*size) const {
    std::string text;
    for (std::size_t k = 0; k < pieces.size(); ++k)
      text += message({k == 0 ? "" : k + 1 == pieces.size() ? " and " : ", ", pieces[k].*size});
    return text;
  }
};

/// A call of one rank. A queue keeps one and sets it for each post, so that steady state allocates nothing.
struct RankCall {
  Call call;
  core::List<Ends> ends;  // of each piece
  RankEvents events{};

  template <CollectiveCall C>
  void set(const C& typed, RankTask task = nullptr, void* context = nullptr) {
    call.kind = C::kind;
    call.in = element_type<typename C::Input>();
    call.out = element_type<typename C::Output>();
    call.pieces.clear();
    call.root = 0;
    call.tag = typed.tag;
    call.task = task;
    call.context = context;
    call.scale = 1;
    call.carry = {};
    ends.clear();
    if constexpr (C::kind == Collective::reduce_scatter) {
      call.scale = typed.scale;
      call.carry = typed.carry;
    }
    if constexpr (C::kind == Collective::broadcast) call.root = typed.root;
    add(typed.pieces);
  }

  template <class In, class Out>
  void add(const Pieces<In, Out>& pieces) {
    for (const auto& [in, out, part] : pieces) {
      const bool cut = call.kind == Collective::reduce_scatter;
      call.pieces.push_back({cut ? std::ssize(in) : std::ssize(out), part});
      ends.push_back({in.data(), out.data(), call.carry.sums});
      if (call.carry.sums) call.carry.sums += part;
    }
    call.carry.sums = nullptr;
  }
};

/// One piece of an operation, for a task.
struct PieceOfCall {
  index_t elements = 0;  // of the whole vector
  index_t part = 0;
  int root = 0;
  float scale = 1;
  Carry carry{};
  index_t element_bytes = 0;  // of the result
};

/// A call, as the ranks come one after another.
struct Operation {
  Call call;
  int first = -1;  // the rank that came first, whose call the others must make
  int joined = 0;
  int tasks_left = 0;
  core::Clock::time_point began{};  // where somebody keeps a timeline
  core::List<Ends> ends;     // of each piece, of all ranks
  core::List<RankEvents> events;

  int world() const noexcept { return static_cast<int>(events.size()); }
  index_t bytes() const noexcept { return call.elements() * call.in.bytes * world(); }

  /// The rank that comes first begins it anew.
  void begin(int rank, int world, const Call& its_call) {
    first = rank;
    call = its_call;
    ends.resize(call.pieces.size() * to_size(world));
    events.resize(to_size(world));
  }
  void join(int rank, const RankCall& of_rank) {
    for (std::size_t k = 0; k < of_rank.ends.size(); ++k) ends[k * events.size() + to_size(rank)] = of_rank.ends[k];
    events[to_size(rank)] = of_rank.events;
    ++joined;
  }

  /// f(piece, the ranks' buffers of it) for each piece.
  template <class F>
  void for_each_piece(const F& f) const {
    for (std::size_t k = 0; k < call.pieces.size(); ++k)
      f(PieceOfCall{call.pieces[k].elements, call.pieces[k].part, call.root, call.scale, call.carry,
                    call.out.bytes},
        std::span<const Ends>(ends.data() + k * events.size(), events.size()));
  }

  void run(int rank) const { call.task(*this, rank); }
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
void reduce_scatter(const PieceOfCall& call, std::span<const Ends> ranks, int rank) {
  const Slice slice(call.elements, call.part, rank);
  const Ends& own = ranks[to_size(rank)];
  continue_sum_in_tree(
      own.sums, call.carry.stride, call.carry.before, min(call.carry.leaves, static_cast<int>(ranks.size())),
      call.carry.last, slice.size, [&](int r) { return input<In>(ranks[to_size(r)]) + slice.begin; },
      output<Out>(own), call.scale);
}

inline void all_gather(const PieceOfCall& call, std::span<const Ends> ranks, int rank) {
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    const Slice slice(call.elements, call.part, r);
    copy(output<char>(ranks[to_size(rank)]) + slice.begin * call.element_bytes, ranks[to_size(r)].in,
         slice.size * call.element_bytes);
  }
}

// Every element belongs to one task, which reads it on all ranks before it writes it on any.
template <class T>
void all_reduce(const PieceOfCall& call, std::span<const Ends> ranks, int rank) {
  const int world = static_cast<int>(ranks.size());
  const Slice slice(call.elements, ceil_div(call.elements, world), rank);
  TreeSum<SumType<T>> sum;
  for (index_t done = 0; done < slice.size; done += sum.chunk) {
    const index_t begin = slice.begin + done;
    const index_t size = min(sum.chunk, slice.size - done);
    const auto* total = sum(world, size, [&](int r) { return output<const T>(ranks[to_size(r)]) + begin; });
    for (const Ends& ends : ranks)
      exec::vectorize(0, size, [to = output<T>(ends) + begin, total](index_t i) { to[i] = static_cast<T>(total[i]); });
  }
}

inline void all_to_all(const PieceOfCall& call, std::span<const Ends> ranks, int rank) {
  const index_t bytes = call.elements / std::ssize(ranks) * call.element_bytes;
  for (index_t r = 0; r < std::ssize(ranks); ++r)
    copy(output<char>(ranks[to_size(rank)]) + r * bytes, input<char>(ranks[to_size(r)]) + rank * bytes, bytes);
}

inline void broadcast(const PieceOfCall& call, std::span<const Ends> ranks, int rank) {
  copy(ranks[to_size(rank)].out, ranks[to_size(call.root)].out, call.elements * call.element_bytes);
}

template <auto task>
void on_each_piece(const Operation& operation, int rank) {
  operation.for_each_piece([rank](const PieceOfCall& piece, std::span<const Ends> ranks) { task(piece, ranks, rank); });
}

/// A rank's part of a call on the host: it moves memory.
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
