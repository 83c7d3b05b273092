// One rank's call of a collective of Local, without element types: what must be the same on all ranks, and the
// addresses of this rank's buffers.
#pragma once

#include <cstring>
#include <span>
#include <string>

#include <tessera/comm/call.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::local {

/// The addresses of one rank's buffers of a piece.
struct Ends {
  const void* in = nullptr;
  void* out = nullptr;
  float* sums = nullptr;  // of a reduce_scatter that continues earlier sums
  index_t elements = -1;  // of the whole vector; -1: the rank has not joined
};

/// The events of a rank of CudaLocal: the collective waits for `after` and records `done`.
struct RankEvents {
  void* after = nullptr;
  void* done = nullptr;
};

struct PieceSize {
  index_t elements = 0;  // of the whole vector; each group or set of peers may have its own size
  index_t part = 0;

  bool operator==(const PieceSize&) const = default;
};

struct Operation;

/// Does a rank's share of the operation. May throw an Error, which ends the group, but only if the last rank to join
/// runs it.
using RankTask = void (*)(const Operation& operation, int rank);

/// The part of a call that must be the same on all ranks, and the task that performs it.
struct Call {
  Collective kind{};
  ElementType in{};
  ElementType out{};
  core::List<PieceSize> pieces{};
  int root = 0;
  Tag tag{};
  RankTask task = nullptr;
  void* context = nullptr;  // an argument of the task
  float scale = 1;          // of the sum of a reduce_scatter
  Carry carry{};            // of a reduce_scatter
  Ranks over = Ranks::world;
  int group_size = 1;

  index_t elements() const noexcept {
    index_t sum = 0;
    for (const PieceSize& piece : pieces) sum += piece.elements;
    return sum;
  }

  /// Compares everything, except sizes of vectors in calls over groups or peers.
  bool same_as(const Call& other) const noexcept {
    return same_pieces(other) && kind == other.kind && in.bytes == other.in.bytes && out.bytes == other.out.bytes &&
           std::strcmp(in.name, other.in.name) == 0 && std::strcmp(out.name, other.out.name) == 0 &&
           root == other.root && over == other.over && group_size == other.group_size &&
           carry.before == other.carry.before &&
           carry.leaves == other.carry.leaves && carry.last == other.carry.last && tag.index == other.tag.index &&
           tag.pass == other.tag.pass && std::strcmp(tag.what, other.tag.what) == 0;
  }

  /// "reduce_scatter of 4096 bfloat16 in parts of 1024 (gradients of bucket 3, pass 2)"; with several pieces: "of 4096
  /// and 64 bfloat16 in parts of 1024 and 16".
  std::string text() const {
    std::string text = message({name(kind), " of ", of_pieces(&PieceSize::elements), " ", in.name});
    if (std::strcmp(in.name, out.name) != 0) text += message({" to ", out.name});
    if (kind == Collective::reduce_scatter || kind == Collective::all_gather)
      text += message({" in parts of ", of_pieces(&PieceSize::part)});
    text += communicator::ranks_text(over, group_size);
    if (scale != 1) text += message({" times ", static_cast<double>(scale)});
    if (carry.leaves != Carry::every_rank) text += message({", of the first ", carry.leaves, " ranks"});
    if (carry.before > 0) text += message({", added to ", carry.before, " before"});
    if (!carry.last) text += ", to be continued";
    if (kind == Collective::broadcast) text += message({" from rank ", root});
    return text + message({" (", tag.text(), ")"});
  }

 private:
  bool same_pieces(const Call& other) const noexcept {
    if (over == Ranks::world || pieces.size() != other.pieces.size()) return pieces == other.pieces;
    for (std::size_t k = 0; k < pieces.size(); ++k)
      if (pieces[k].part != other.pieces[k].part) return false;
    return true;
  }

  std::string of_pieces(index_t PieceSize::*size) const {
    std::string text;
    for (std::size_t k = 0; k < pieces.size(); ++k)
      text += message({k == 0 ? "" : k + 1 == pieces.size() ? " and " : ", ", pieces[k].*size});
    return text;
  }
};

/// A call of one rank. A queue has one and sets it for each post, so that steady state allocates nothing.
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
    call.over = typed.over;
    call.group_size = typed.group_size;
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
    for (const auto& [in, out, part, sums] : pieces) {
      const bool cut = call.kind == Collective::reduce_scatter;
      const index_t elements = cut ? std::ssize(in) : std::ssize(out);
      call.pieces.push_back({elements, part});
      ends.push_back({in.data(), out.data(), sums, elements});
    }
  }
};

}  // namespace tessera::local
