// How a rank of a test lets go of a queue: as Sharded does, while what was handed to the queue still lives.
#pragma once

namespace tessera::testing {

/// Drops the queue at the end of its scope, also when a check or an error leaves it half-way. Stands behind the buffers
/// that collectives of the queue were given: without it they would die first, under the hands of a peer.
template <class Queue>
class DropsFirst {
 public:
  explicit DropsFirst(Queue& queue) : queue_(queue) {}
  DropsFirst(const DropsFirst&) = delete;
  DropsFirst& operator=(const DropsFirst&) = delete;
  ~DropsFirst() { queue_.drop(); }

 private:
  Queue& queue_;
};

}  // namespace tessera::testing
