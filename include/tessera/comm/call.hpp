// Collectives as values: ranges, ranks, workspace, and a name for messages. A queue reads a call during post() and
// copies what it needs. The caller keeps the buffers that the call names alive until the collective is done.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
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

namespace communicator {

/// " over groups of 4 ranks", as messages say it; "" for the whole world without groups.
inline std::string ranks_text(Ranks over, int group_size) {
  if (over == Ranks::world && group_size == 1) return {};
  constexpr const char* how[] = {" in groups of ", " over groups of ", " over peers in groups of "};
  return message({how[static_cast<int>(over)], group_size, " ranks"});
}

}  // namespace communicator

/// The name and the size of an element type, for messages and logs.
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

/// The elements of slice `index` of a vector that is cut into slices of `part`. The last slices may be short or empty.
struct Slice {
  index_t begin = 0;
  index_t size = 0;

  TESSERA_HD constexpr Slice(index_t elements, index_t part, int index) noexcept
      : begin(min(index * part, elements)), size(min(part, elements - begin)) {}
};

/// One range of a call: this rank's input and output. Each call defines the two. part: elements per slice, in calls
/// that cut the vector into slices of ranks. sums: of a ReduceScatter with a Carry, the partial sums of this rank's
/// slice, the largest block first.
template <class In, class Out = In>
struct Piece {
  std::span<const In> in;
  std::span<Out> out;
  index_t part = 0;
  float* sums = nullptr;
};

/// The pieces of a call: one in most cases, or several, whose array the caller keeps alive until the call is posted.
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

/// The members of all calls. Every rank of the world makes the same call, also if it is over groups or peers. Such a
/// call needs a GroupCommunicator.
template <class In, class Out = In>
struct CallOf {
  using Input = In;
  using Output = Out;

  Pieces<In, Out> pieces;
  Tag tag{};
  Ranks over = Ranks::world;
  int group_size = 1;  ///< ranks per group; divides the world size

  constexpr core::Groups groups(int world) const noexcept { return {world, group_size}; }
};

/// How an ordered sum continues the partial sums (Piece::sums) of earlier calls of a step (comm/tree.hpp). By default
/// one call is the whole sum and every rank contributes a leaf. before, leaves and last are the same on all ranks.
struct Carry {
  index_t stride = 0;  ///< elements from one partial sum to the next
  index_t before = 0;  ///< leaves in the partial sums
  int leaves = every_rank;  ///< ranks 0 .. leaves - 1 contribute a leaf; the input of the others is not read
  bool last = true;  ///< writes `out`; else writes `sums`, and `out` may be empty

  static constexpr int every_rank = std::numeric_limits<int>::max();

  constexpr bool is_whole() const noexcept { return before == 0 && leaves == every_rank && last; }
};

/// Sums every rank's `in` and leaves this rank's slice in `out`. in: [<= world * part]; out: this rank's slice of the
/// sum, formed in fp32, multiplied by `scale` in fp32 and rounded once; in place if out is that slice of in. Without
/// groups, slice r belongs to rank r; with groups, core/groups.hpp assigns slices. A communicator that is not `ordered`
/// may round as its library does and scale the inputs instead of the sum; it refuses a Carry that is not whole.
/// workspace: if the communicator needs one (needs_workspace), workspace_bytes() bytes, 16-byte aligned, that nothing
/// else uses until the call is done.
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

/// Gives every rank the slices of all ranks. in: this rank's slice of out; out: [<= world * part]; in place if in is
/// that slice of out.
template <class T>
struct AllGather : CallOf<T> {
  static constexpr Collective kind = Collective::all_gather;

  constexpr AllGather(std::span<const T> in, std::span<T> out, index_t part, const Tag& label) noexcept
      : CallOf<T>{Piece<T>{in, out, part}, label} {}
  constexpr AllGather(std::span<const Piece<T>> ranges, const Tag& label) noexcept : CallOf<T>{ranges, label} {}
};

/// Replaces each element by its sum over all ranks: in = out. Integers are summed modulo 2^64. workspace: as for
/// ReduceScatter, for floating-point sums over a communicator that needs one for ReduceScatter<T, T>.
template <class T>
struct AllReduce : CallOf<T> {
  static constexpr Collective kind = Collective::all_reduce;

  constexpr AllReduce(std::span<T> inout, const Tag& label, std::span<std::byte> memory = {}) noexcept
      : CallOf<T>{Piece<T>{inout, inout}, label}, workspace(memory) {}
  constexpr AllReduce(std::span<const Piece<T>> ranges, const Tag& label, std::span<std::byte> memory = {}) noexcept
      : CallOf<T>{ranges, label}, workspace(memory) {}

  std::span<std::byte> workspace;
};

/// Sends a part to every rank and receives a part from every rank. in, out: [world * n]; elements r * n .. (r + 1) * n
/// of `in` go to rank r, and those of `out` come from rank r. Not in place.
template <class T>
struct AllToAll : CallOf<T> {
  static constexpr Collective kind = Collective::all_to_all;

  constexpr AllToAll(std::span<const T> in, std::span<T> out, const Tag& label) noexcept
      : CallOf<T>{Piece<T>{in, out}, label} {}
  constexpr AllToAll(std::span<const Piece<T>> ranges, const Tag& label) noexcept : CallOf<T>{ranges, label} {}
};

/// Gives every rank the vector of rank `root`: in = out.
template <class T>
struct Broadcast : CallOf<T> {
  static constexpr Collective kind = Collective::broadcast;

  constexpr Broadcast(std::span<T> inout, int from, const Tag& label) noexcept
      : CallOf<T>{Piece<T>{inout, inout}, label}, root(from) {}
  constexpr Broadcast(std::span<const Piece<T>> ranges, int from, const Tag& label) noexcept
      : CallOf<T>{ranges, label}, root(from) {}

  int root;
};

/// A call whose sum is formed in the fixed tree of design section 4.3, on a queue whose other sums have no fixed order.
/// It needs a workspace.
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

/// Whether the result of a call depends on the order of its sum.
template <CollectiveCall Call>
inline constexpr bool sums_in_some_order =
    Call::kind == Collective::reduce_scatter ||
    (Call::kind == Collective::all_reduce && !std::integral<typename Call::Input>);

/// The number of elements of a piece's whole vector.
template <CollectiveCall Call>
constexpr index_t vector_elements(const Piece<typename Call::Input, typename Call::Output>& piece) noexcept {
  return Call::kind == Collective::reduce_scatter ? std::ssize(piece.in) : std::ssize(piece.out);
}

/// The workspace of a reduction, for a communicator that needs one: for each piece, one slice from every rank, piece
/// after piece. A world of one rank needs none.
template <CollectiveCall Call>
constexpr index_t workspace_bytes(const Call& call, int world) noexcept {
  index_t elements = 0;
  world = call.groups(world).ranks(call.over);
  for (const auto& piece : call.pieces)
    elements += world * (Call::kind == Collective::reduce_scatter ? piece.part : std::ssize(piece.out));
  return world > 1 ? elements * static_cast<index_t>(sizeof(typename Call::Input)) : 0;
}

/// Checks the sizes of a call before anything is sent. Throws BufferError.
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

/// Checks a call; communicators use it before they send anything. Throws BufferError, OptionError.
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

/// Refuses a call over groups, for a communicator without groups. Throws OptionError.
template <CollectiveCall Call>
void refuse_groups(const Call& call) {
  if (call.over != Ranks::world || call.group_size != 1)
    throw OptionError(message({name(Call::kind), communicator::ranks_text(call.over, call.group_size),
                               ": this communicator has no groups"}));
}

}  // namespace tessera
