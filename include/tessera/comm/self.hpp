// The communicator of a world of one rank. post() does all work before it returns and sends nothing.
#pragma once

#include <chrono>
#include <cstring>
#include <span>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/tree.hpp>
#include <tessera/exec/host.hpp>

namespace tessera {

class Self {
 public:
  using Executor = Host;
  static constexpr bool ordered = true;
  static constexpr bool has_groups = true;

  class Queue {
   public:
    using Event = HostEvent;

    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      check_call(call, 1, 0);
      after.wait();
      if constexpr (Call::kind == Collective::reduce_scatter)
        add(call);
      else
        for (const auto& piece : call.pieces) copy(piece.in, piece.out);
      return {};
    }
    template <CollectiveCall Call>
    Event post(std::span<const Call> calls, const Event& after = {}) {
      return communicator::post_each(*this, calls, after);
    }

    void drop() noexcept {}

   private:
    template <class Call>
    static void add(const Call& call) {
      for (const auto& piece : call.pieces)
        continue_sum_in_tree(
            piece.sums, call.carry.stride, call.carry.before, min(call.carry.leaves, 1), call.carry.last,
            std::ssize(piece.in), [&](int) { return piece.in.data(); }, piece.out.data(), call.scale);
    }

    template <class T>
    static void copy(std::span<const T> in, std::span<T> out) {
      if (!out.empty() && in.data() != out.data())
        std::memcpy(out.data(), in.data(), min(in.size_bytes(), out.size_bytes()));
    }
  };

  explicit Self(Host executor = Host{}) : executor_(std::move(executor)) {}

  int rank() const noexcept { return 0; }
  int size() const noexcept { return 1; }
  Host executor() const { return executor_; }
  Queue queue(std::chrono::nanoseconds) const noexcept { return {}; }

 private:
  Host executor_;
};

}  // namespace tessera
