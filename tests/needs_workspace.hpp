// Local, with reductions into float that require a workspace: they write to all of it, and reject one that is too
// small.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>

#include <tessera/comm/decorators/decorator.hpp>
#include <tessera/comm/local/local.hpp>

namespace tessera::testing {

class NeedsWorkspace : public CommunicatorDecorator<Local> {
 public:
  template <class In, class Out>
  static constexpr bool needs_workspace = std::same_as<Out, float>;

  class Queue : public QueueDecorator<Local::Queue> {
   public:
    Queue(Local& comm, std::chrono::nanoseconds timeout) : QueueDecorator(comm, timeout), world_(comm.size()) {}

    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      if constexpr (Call::kind == Collective::reduce_scatter && std::same_as<typename Call::Output, float>) {
        if (std::ssize(call.workspace) < workspace_bytes(call, world_)) throw BufferError("the workspace is too small");
        std::fill(call.workspace.begin(), call.workspace.end(), std::byte{0xff});
      }
      return QueueDecorator::post(call, after);
    }

   private:
    int world_;
  };

  explicit NeedsWorkspace(Local comm) : CommunicatorDecorator(std::move(comm)) {}
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(below(), timeout); }
};
static_assert(Communicator<NeedsWorkspace>);

}  // namespace tessera::testing
