// Collectives as values: which ranges, over which ranks, with which memory besides, and the name that messages give
// it. A queue reads a call while it is posted and copies what it needs of it; the memory that the call names is the
// caller's until the collective is done.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include <tessera/comm/tag.hpp>
#include <tessera/core/bfloat16.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/core/groups.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

enum class Collective { reduce_scatter, all_gather, all_reduce, all_to_all, broadcast };

constexpr const char* name(Collective kind) noexcept {
  constexpr const char* names[] = {"reduce_scatter", "all_gather", "all_reduce", "all_to_all", "broadcast"};
  return names[static_cast<int>(kind)];
}

constexpr const char* name(Ranks set) noexcept {
  constexpr const char* names[] = {"the world", "groups", "peers"};
  return names[static_cast<int>(set)];
}

/// What messages and logs say of an element.
struct ElementType {
  const char* name = "";
  index_t bytes = 0;
};

template <class T>
constexpr ElementType element_type() noexcept {
  constexpr index_t bytes = sizeof(T);
  if constexpr (std::same_as<T, float>) return {"float", bytes};
  else if constexpr (std::same_as<T, double>) return {"double", bytes};
  else if constexpr (std::same_as<T, bfloat16>) return {"bfloat16", bytes};
  else if constexpr (std::same_as<T, float16>) return {"float16", bytes};
  else if constexpr (std::same_as<T, std::uint64_t>) return {"uint64", bytes};
  else if constexpr (std::same_as<T, std::int64_t>) return {"int64", bytes};
  else return {"elements of another type", bytes};
}

/// The elements of the index-th slice of a vector that is cut every `part`: the last ones may be short or empty.
struct Slice {
  index_t begin = 0;
  index_t size = 0;

  TESSERA_HD constexpr Slice(index_t elements, index_t part, int index) noexcept
      : begin(min(index * part, elements)), size(min(part, elements - begin)) {}
};

/// One range of a call: what this rank hands in and where it wants the result. part: how the vector is cut into the
/// ranks' slices, where it is. What in and out are, each call says.
template <class In, class Out = In>
struct Piece {
  std::span<const In> in;
  std::span<Out> out;
  index_t part = 0;
};

/// The pieces of a call: nearly always one; or several, which lie where the caller keeps them until the call is posted.
template <class In, class Out = In>
class Pieces {
 public:
  constexpr Pieces(const Piece<In, Out>& one) noexcept : one_(one) {}
  constexpr Pieces(std::span<const Piece<In, Out>> several) noexcept : several_(several), is_one_(false) {}

  constexpr const Piece<In, Out>* begin() const noexcept { return is_one_ ? &one_ : several_.data(); }
  constexpr const Piece<In, Out>* end() const noexcept { return begin() + size(); }
  constexpr index_t size() const noexcept { return is_one_ ? 1 : std::ssize(several_); }

 private:
  Piece<In, Out> one_{};
  std::span<const Piece<In, Out>> several_{};
  bool is_one_ = true;
};

/// What all calls have. Every rank of the world makes the same call, whatever ranks it is over. A call over groups or
/// peers needs a communicator that has them (GroupCommunicator).
template <class In, class Out = In>
struct CallOf {
  using Input = In;
  using Output = Out;

  Pieces<In, Out> pieces;
  Tag tag{};
  Ranks over = Ranks::world;
  int group_size = 1;  ///< ranks of a group; divides the world

  constexpr core::Groups groups(int world) const noexcept { return {world, group_size}; }
};

/// How an ordered sum continues from what earlier calls of a step left (comm/tree.hpp). By itself: one call is the
/// whole sum, and every rank brings a leaf. before, leaves and last are the same on all ranks.
struct Carry {
  float* sums = nullptr;  ///< what the counter holds of this rank's slice, largest block first; pieces back to back
  index_t stride = 0;     ///< elements from one of these sums to the next
  index_t before = 0;     ///< leaves that they hold
  int leaves = every_rank;  ///< ranks 0 .. leaves - 1 bring one; what the others hand in is not read
  bool last = true;       ///< `out` is written; else `sums` are, and `out` may be empty

  static constexpr int every_rank = std::numeric_limits<int>::max();

  constexpr bool is_whole() const noexcept { return before == 0 && leaves == every_rank && last; }
};

/// in: [<= world * part]; out: this rank's slice of in, summed over ranks in fp32, multiplied by `scale` in fp32, and
/// then rounded once; in place: out lies on that slice. Over the world, a rank's slice is the rank-th, or where there
/// are groups the one that divides its group's slice among its peers (core/groups.hpp). A communicator that is not `ordered` may round as its library
/// does, and multiply what each rank brings instead of the sum; it refuses a Carry that is not whole. workspace: where
/// the communicator needs one (needs_workspace), workspace_bytes() that nothing else uses until the call is done, at a
/// 16-byte border.
template <class In, class Out = In>
struct ReduceScatter : CallOf<In, Out> {
  static constexpr Collective kind = Collective::reduce_scatter;

  constexpr ReduceScatter(std::span<const In> in, std::span<Out> out, index_t part, const Tag& label, float factor = 1,
                          std::span<std::byte> memory = {}) noexcept
      : CallOf<In, Out>{Piece<In, Out>{in, out, part}, label}, scale(factor), workspace(memory) {}
  constexpr ReduceScatter(std::span<const Piece<In, Out>> ranges, const Tag& label, float factor = 1,
                          std::span<std::byte> memory = {}) noexcept
      : CallOf<In, Out>{ranges, label}, scale(factor), workspace(memory) {}

  float scale;
  std::span<std::byte> workspace;
  Carry carry{};
};

/// in: this rank's slice of out; out: [<= world * part]; in place: in lies on that slice.
template <class T>
struct AllGather : CallOf<T> {
  static constexpr Collective kind = Collective::all_gather;

  constexpr AllGather(std::span<const T> in, std::span<T> out, index_t part, const Tag& label) noexcept
      : CallOf<T>{Piece<T>{in, out, part}, label} {}
  constexpr AllGather(std::span<const Piece<T>> ranges, const Tag& label) noexcept : CallOf<T>{ranges, label} {}
};

/// Each element becomes the sum of all ranks': in = out. Integers are summed modulo 2^64. workspace: as of a
/// ReduceScatter, for the sums of floating-point numbers by a communicator that needs one for ReduceScatter<T, T>.
template <class T>
struct AllReduce : CallOf<T> {
  static constexpr Collective kind = Collective::all_reduce;

  constexpr AllReduce(std::span<T> inout, const Tag& label, std::span<std::byte> memory = {}) noexcept
      : CallOf<T>{Piece<T>{inout, inout}, label}, workspace(memory) {}
  constexpr AllReduce(std::span<const Piece<T>> ranges, const Tag& label, std::span<std::byte> memory = {}) noexcept
      : CallOf<T>{ranges, label}, workspace(memory) {}

  std::span<std::byte> workspace;
};

/// in, out: [world * n]; in's r-th n-th goes to rank r, and out's r-th n-th comes from it; not in place.
template <class T>
struct AllToAll : CallOf<T> {
  static constexpr Collective kind = Collective::all_to_all;

  constexpr AllToAll(std::span<const T> in, std::span<T> out, const Tag& label) noexcept
      : CallOf<T>{Piece<T>{in, out}, label} {}
  constexpr AllToAll(std::span<const Piece<T>> ranges, const Tag& label) noexcept : CallOf<T>{ranges, label} {}
};

/// Every rank gets rank `root`'s: in = out.
template <class T>
struct Broadcast : CallOf<T> {
  static constexpr Collective kind = Collective::broadcast;

  constexpr Broadcast(std::span<T> inout, int from, const Tag& label) noexcept
      : CallOf<T>{Piece<T>{inout, inout}, label}, root(from) {}
  constexpr Broadcast(std::span<const Piece<T>> ranges, int from, const Tag& label) noexcept
      : CallOf<T>{ranges, label}, root(from) {}

  int root;
};

/// The same call, whose sum is formed in the fixed tree of design section 4.3, by a queue whose other sums have no
/// fixed order. It needs a workspace.
template <class Call>
struct InFixedOrder : Call {
  constexpr explicit InFixedOrder(const Call& call) noexcept : Call(call) {}
};

template <class Call>
inline constexpr bool in_fixed_order = false;
template <class Call>
inline constexpr bool in_fixed_order<InFixedOrder<Call>> = true;

template <class C>
concept CollectiveCall = std::derived_from<C, CallOf<typename C::Input, typename C::Output>> && requires {
  { C::kind } -> std::convertible_to<Collective>;
};

/// Whether a call sums numbers whose sum depends on the order.
template <CollectiveCall Call>
inline constexpr bool sums_in_some_order =
    Call::kind == Collective::reduce_scatter ||
    (Call::kind == Collective::all_reduce && !std::integral<typename Call::Input>);

/// Elements of a piece's whole vector.
template <CollectiveCall Call>
constexpr index_t vector_elements(const Piece<typename Call::Input, typename Call::Output>& piece) noexcept {
  return Call::kind == Collective::reduce_scatter ? std::ssize(piece.in) : std::ssize(piece.out);
}

/// The memory that a reduction needs of a communicator that needs any: for each piece as many elements of every rank
/// as one rank's slice has, one piece after another. A world of one needs none.
template <CollectiveCall Call>
constexpr index_t workspace_bytes(const Call& call, int world) noexcept {
  index_t elements = 0;
  world = call.groups(world).ranks(call.over);
  for (const auto& piece : call.pieces)
    elements += world * (Call::kind == Collective::reduce_scatter ? piece.part : std::ssize(piece.out));
  return world > 1 ? elements * static_cast<index_t>(sizeof(typename Call::Input)) : 0;
}

/// What collectives refuse before anything is sent. Throws BufferError.
inline void check_slices(const char* call, index_t elements, index_t part, core::Groups groups, Ranks over,
                         index_t slice_room, int rank) {
  if (part < 0 || elements > part * groups.ranks(over))
    throw BufferError(
        message({call, ": ", elements, " elements do not fit into ", groups.ranks(over), " parts of ", part}));
  const index_t needed = Slice(elements, part, groups.slice(over, rank)).size;
  if (slice_room < needed)
    throw BufferError(message({call, ": rank ", rank, "'s slice has ", needed, " elements, its buffer ", slice_room}));
}

inline void check_all_to_all(index_t in, index_t out, int world) {
  if (in != out || in % world != 0)
    throw BufferError(message({"all_to_all: in has ", in, " elements, out ", out, ": both need the same multiple of ",
                               world}));
}

inline void check_root(int root, int world) {
  if (root < 0 || root >= world)
    throw OptionError(message({"broadcast: there is no rank ", root, " among ", world}));
}

/// Refuses what cannot be sent: by communicators, before anything is. Throws BufferError, OptionError.
template <CollectiveCall Call>
void check_call(const Call& call, int world, int rank) {
  if (call.group_size < 1 || world % call.group_size != 0)
    throw OptionError(message({name(Call::kind), ": ", world, " ranks do not divide into groups of ", call.group_size}));
  const core::Groups groups = call.groups(world);
  for ([[maybe_unused]] const auto& piece : call.pieces) {
    if constexpr (Call::kind == Collective::reduce_scatter)
      check_slices("reduce_scatter", std::ssize(piece.in), piece.part, groups, call.over,
                   call.carry.last ? std::ssize(piece.out) : piece.part, rank);
    else if constexpr (Call::kind == Collective::all_gather)
      check_slices("all_gather", std::ssize(piece.out), piece.part, groups, call.over, std::ssize(piece.in), rank);
    else if constexpr (Call::kind == Collective::all_to_all)
      check_all_to_all(std::ssize(piece.in), std::ssize(piece.out), groups.ranks(call.over));
  }
  if constexpr (Call::kind == Collective::broadcast) check_root(call.root, groups.ranks(call.over));
}

/// For a communicator without groups. Throws OptionError.
template <CollectiveCall Call>
void refuse_groups(const Call& call) {
  if (call.over != Ranks::world || call.group_size != 1)
    throw OptionError(message({name(Call::kind), " over ", name(call.over), " of ", call.group_size,
                               " ranks: this communicator has no groups"}));
}

}  // namespace tessera
