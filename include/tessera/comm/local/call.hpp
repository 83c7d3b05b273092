// One collective of Local: what a rank calls, where its buffers lie, and the part of the work that each rank does.
// Peers' buffers are read directly; each portion writes what no other portion touches.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/tree.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/math.hpp>

namespace tessera::local {

/// One rank's buffers.
struct Ends {
  const void* in = nullptr;
  void* out = nullptr;
  void* after = nullptr;  // the events of CudaLocal: what the collective starts after, and what is to be recorded
  void* done = nullptr;   // behind it
};

struct Call;

/// Does rank's portion. May throw an Error, which ends the group, where it is run by the rank that comes last.
using Portion = void (*)(const Call& call, const std::vector<Ends>& ranks, int rank);

/// What has to be the same on all ranks.
struct Call {
  Collective kind{};
  ElementType in{};
  ElementType out{};
  index_t elements = 0;  // of the whole vector
  index_t part = 0;
  int root = 0;
  Tag tag{};
  Portion portion = nullptr;
  void* context = nullptr;  // what the portion needs besides
  float scale = 1;          // of a reduce_scatter's sum

  bool same_as(const Call& other) const noexcept {
    return kind == other.kind && in.bytes == other.in.bytes && out.bytes == other.out.bytes &&
           std::strcmp(in.name, other.in.name) == 0 && std::strcmp(out.name, other.out.name) == 0 &&
           elements == other.elements && part == other.part && root == other.root && tag.index == other.tag.index &&
           tag.pass == other.tag.pass && std::strcmp(tag.what, other.tag.what) == 0;
  }

  /// "reduce_scatter of 4096 bfloat16 in parts of 1024 (gradients of bucket 3, pass 2)"
  std::string text() const {
    std::string text = message({name(kind), " of ", elements, " ", in.name});
    if (std::strcmp(in.name, out.name) != 0) text += message({" to ", out.name});
    if (kind == Collective::reduce_scatter || kind == Collective::all_gather) text += message({" in parts of ", part});
    if (scale != 1) text += message({" times ", static_cast<double>(scale)});
    if (kind == Collective::broadcast) text += message({" from rank ", root});
    return text + message({" (", tag.text(), ")"});
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
void reduce_scatter(const Call& call, const std::vector<Ends>& ranks, int rank) {
  const Slice slice(call.elements, call.part, rank);
  sum_in_tree(
      static_cast<int>(ranks.size()), slice.size, [&](int r) { return input<In>(ranks[to_size(r)]) + slice.begin; },
      output<Out>(ranks[to_size(rank)]), call.scale);
}

inline void all_gather(const Call& call, const std::vector<Ends>& ranks, int rank) {
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    const Slice slice(call.elements, call.part, r);
    copy(output<char>(ranks[to_size(rank)]) + slice.begin * call.out.bytes, ranks[to_size(r)].in,
         slice.size * call.out.bytes);
  }
}

// Every element belongs to one portion, which reads it on all ranks before it writes it on any.
template <class T>
void all_reduce(const Call& call, const std::vector<Ends>& ranks, int rank) {
  const int world = static_cast<int>(ranks.size());
  const Slice slice(call.elements, ceil_div(call.elements, world), rank);
  TreeSum<SumType<T>> sum;
  for (index_t done = 0; done < slice.size; done += sum.chunk) {
    const index_t begin = slice.begin + done;
    const index_t size = min(sum.chunk, slice.size - done);
    const auto* total = sum(world, size, [&](int r) { return output<const T>(ranks[to_size(r)]) + begin; });
    for (const Ends& ends : ranks)
      vectorize(0, size, [to = output<T>(ends) + begin, total](index_t i) { to[i] = static_cast<T>(total[i]); });
  }
}

inline void all_to_all(const Call& call, const std::vector<Ends>& ranks, int rank) {
  const index_t bytes = call.elements / std::ssize(ranks) * call.out.bytes;
  for (index_t r = 0; r < std::ssize(ranks); ++r)
    copy(output<char>(ranks[to_size(rank)]) + r * bytes, input<char>(ranks[to_size(r)]) + rank * bytes, bytes);
}

inline void broadcast(const Call& call, const std::vector<Ends>& ranks, int rank) {
  copy(ranks[to_size(rank)].out, ranks[to_size(call.root)].out, call.elements * call.out.bytes);
}

/// A call, as the ranks come one after another.
struct Operation {
  explicit Operation(int world) : ranks(to_size(world)) {}

  Call call;
  int first = -1;  // the rank that came first, whose call the others must make
  int joined = 0;
  int portions_left = 0;
  Clock::time_point began{};  // where somebody keeps a timeline
  std::vector<Ends> ranks;

  index_t bytes() const noexcept { return call.elements * call.in.bytes * std::ssize(ranks); }
  void run(int rank) const { call.portion(call, ranks, rank); }
};

/// Operations by their sequence number, oldest first. Grows, never shrinks: steady state allocates nothing.
class Ring {
 public:
  explicit Ring(int world) : world_(world) { slots_.push_back(std::make_shared<Operation>(world)); }

  /// Makes room for `sequence`, while all from `oldest` on are kept.
  Operation& at(std::uint64_t sequence, std::uint64_t oldest) {
    while (sequence - oldest >= slots_.size()) grow(oldest);
    return (*this)[sequence];
  }
  Operation& operator[](std::uint64_t sequence) noexcept { return *slots_[sequence & (slots_.size() - 1)]; }

  void clear() noexcept {
    for (auto& slot : slots_) slot->joined = 0;
  }

 private:
  // Operations stay where they are in memory: a worker may be at one.
  void grow(std::uint64_t oldest) {
    const std::size_t size = slots_.size();
    std::vector<std::shared_ptr<Operation>> larger(2 * size);
    for (std::uint64_t s = oldest; s < oldest + size; ++s)
      larger[s & (2 * size - 1)] = std::move(slots_[s & (size - 1)]);
    for (auto& slot : larger)
      if (!slot) slot = std::make_shared<Operation>(world_);
    slots_ = std::move(larger);
  }

  int world_;
  std::vector<std::shared_ptr<Operation>> slots_;
};

}  // namespace tessera::local
