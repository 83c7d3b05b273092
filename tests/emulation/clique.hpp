// The ranks of one communicator: their calls that are first on their streams, and the execution of these calls.
// A collective runs when every rank's call of the same number has arrived, a send when its receive has. Calls that do
// not match never run, as with NCCL: they hang until the communicator is aborted.
#pragma once

#include <deque>
#include <map>
#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>
#include <type_traits>

#include "call.hpp"
#include "nccl_types.hpp"

namespace emulated {

enum class Kind { all_gather, reduce_scatter, all_reduce, reduce, broadcast, send, receive };

inline const char* name_of(Kind kind) {
  constexpr const char* names[] = {"ncclAllGather", "ncclReduceScatter", "ncclAllReduce", "ncclReduce",
                                   "ncclBroadcast", "ncclSend",          "ncclRecv"};
  return names[static_cast<int>(kind)];
}

// One call. `count` is in elements, as in NCCL; `other` is the root or the peer.
struct Part {
  Kind kind;
  const void* in;
  void* out;
  std::size_t count;
  ncclDataType_t type;
  ncclRedOp_t op;
  int other;
  double factor = 1;  // multiplies this rank's data; exactly representable in the type

  bool agrees(const Part& with) const {
    return kind == with.kind && count == with.count && type == with.type && op == with.op && other == with.other;
  }
};

// A call that is first on its stream.
struct Posted {
  Part part;
  bool done = false;
};
using PostedPtr = std::shared_ptr<Posted>;

// Calls f(T{}) with the C++ type of `type`.
template <class F>
void with_type(ncclDataType_t type, const F& f) {
  switch (type) {
    case ncclInt8: return f(std::int8_t{});
    case ncclUint8: return f(std::uint8_t{});
    case ncclInt32: return f(std::int32_t{});
    case ncclUint32: return f(std::uint32_t{});
    case ncclInt64: return f(std::int64_t{});
    case ncclUint64: return f(std::uint64_t{});
    case ncclFloat16: return f(tessera::float16{});
    case ncclFloat32: return f(float{});
    case ncclFloat64: return f(double{});
    case ncclBfloat16: return f(tessera::bfloat16{});
  }
}

inline std::size_t bytes_of(ncclDataType_t type) {
  std::size_t bytes = 0;
  with_type(type, [&](auto zero) { bytes = sizeof(zero); });
  return bytes;
}

template <class T>
T reduced(T a, T b, ncclRedOp_t op) {
  using Wide = std::conditional_t<std::is_arithmetic_v<T>, T, float>;
  const Wide x = static_cast<Wide>(a), y = static_cast<Wide>(b);
  switch (op) {
    case ncclProd: return T(static_cast<Wide>(x * y));
    case ncclMax: return x < y ? b : a;
    case ncclMin: return y < x ? b : a;
    default: return T(static_cast<Wide>(x + y));
  }
}

struct Clique {
  int ranks;
  int joined = 0;
  bool dead = false;                                            // a rank was aborted, so others hang
  std::vector<int> devices;                                     // of the ranks that have joined
  std::map<std::uint64_t, std::vector<PostedPtr>> collectives;  // by number, one per rank
  std::map<std::pair<int, int>, std::deque<PostedPtr>> sends, receives;  // by sender and receiver

  explicit Clique(int ranks) : ranks(ranks), devices(static_cast<std::size_t>(ranks), -1) {}

  bool two_on_one_device() const {
    for (std::size_t a = 0; a < devices.size(); ++a) {
      for (std::size_t b = 0; b < a; ++b) {
        if (devices[a] >= 0 && devices[a] == devices[b]) return true;
      }
    }
    return false;
  }

  void post(int rank, std::uint64_t& collective, const PostedPtr& posted) {
    const Part& part = posted->part;
    if (part.kind == Kind::send) {
      sends[{rank, part.other}].push_back(posted);
    } else if (part.kind == Kind::receive) {
      receives[{part.other, rank}].push_back(posted);
    } else {
      std::vector<PostedPtr>& calls = collectives[collective++];
      calls.resize(static_cast<std::size_t>(ranks));
      calls[static_cast<std::size_t>(rank)] = posted;
    }
  }

  // Runs one call whose ranks have all arrived; false: there is none.
  bool go_on() {
    if (dead) return false;
    for (auto at = collectives.begin(); at != collectives.end(); ++at) {
      const std::vector<PostedPtr>& calls = at->second;
      const bool agreed = std::all_of(calls.begin(), calls.end(), [&](const PostedPtr& call) {
        return call && calls.front() && call->part.agrees(calls.front()->part);
      });
      if (!agreed) continue;
      with_type(calls.front()->part.type, [&](auto zero) { run<decltype(zero)>(calls); });
      collectives.erase(at);
      return true;
    }
    for (auto& [pair, sent] : sends) {
      auto& received = receives[pair];
      if (sent.empty() || received.empty()) continue;
      const Part from = sent.front()->part, to = received.front()->part;
      if (from.count * bytes_of(from.type) != to.count * bytes_of(to.type)) continue;
      machine().memory.show(all_devices);
      std::memmove(to.out, from.in, from.count * bytes_of(from.type));
      sent.front()->done = received.front()->done = true;
      sent.pop_front();
      received.pop_front();
      return true;
    }
    return false;
  }

 private:
  template <class T>
  void run(const std::vector<PostedPtr>& calls) {
    machine().memory.show(all_devices);
    const Part& shape = calls.front()->part;
    const std::size_t n = shape.count, world = calls.size();
    const std::size_t total = shape.kind == Kind::reduce_scatter ? n * world : n;
    std::vector<std::vector<T>> in(world);  // all are read before any is written, since they may be in place
    for (std::size_t rank = 0; rank < world; ++rank) {
      if (shape.kind == Kind::broadcast && rank != static_cast<std::size_t>(shape.other)) continue;
      const T* from = static_cast<const T*>(calls[rank]->part.in);
      in[rank].assign(from, from + total);
      if (calls[rank]->part.factor != 1) scale(in[rank], calls[rank]->part.factor);
    }
    std::vector<T> sum;
    if (shape.kind == Kind::all_reduce || shape.kind == Kind::reduce || shape.kind == Kind::reduce_scatter) {
      sum.resize(total);
      for (std::size_t i = 0; i < total; ++i) sum[i] = reduced_over_ranks(in, i, shape.op);
    }
    for (std::size_t rank = 0; rank < world; ++rank) {
      T* out = static_cast<T*>(calls[rank]->part.out);
      switch (shape.kind) {
        case Kind::all_gather:
          for (std::size_t from = 0; from < world; ++from) std::copy(in[from].begin(), in[from].end(), out + from * n);
          break;
        case Kind::reduce_scatter: std::copy_n(sum.begin() + static_cast<std::ptrdiff_t>(rank * n), n, out); break;
        case Kind::reduce:
          if (rank == static_cast<std::size_t>(shape.other)) std::copy(sum.begin(), sum.end(), out);
          break;
        case Kind::broadcast: std::copy_n(in[static_cast<std::size_t>(shape.other)].begin(), n, out); break;
        default: std::copy(sum.begin(), sum.end(), out);
      }
      calls[rank]->done = true;
    }
  }

  template <class T>
  static void scale(std::vector<T>& values, double factor) {
    using Wide = std::conditional_t<std::is_arithmetic_v<T>, T, float>;
    for (T& value : values) value = T(static_cast<Wide>(static_cast<Wide>(value) * static_cast<Wide>(factor)));
  }

  // Each element starts at another rank, so that no test can rely on an order.
  template <class T>
  static T reduced_over_ranks(const std::vector<std::vector<T>>& in, std::size_t i, ncclRedOp_t op) {
    const std::size_t world = in.size();
    T sum = in[i % world][i];
    for (std::size_t k = 1; k < world; ++k) sum = reduced(sum, in[(i + k) % world][i], op);
    if (op != ncclAvg) return sum;
    using Wide = std::conditional_t<std::is_arithmetic_v<T>, T, float>;
    return T(static_cast<Wide>(static_cast<Wide>(sum) / static_cast<Wide>(world)));
  }
};

}  // namespace emulated
