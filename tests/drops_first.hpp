// Drops a queue at the end of a scope, as Sharded does, before the buffers of its collectives are freed.
#pragma once

namespace tessera::testing {

/// Drops the queue at the end of its scope, also if a check or an exception ends the scope early. Declare it after the
/// buffers of the queue's collectives: otherwise they would be freed while a peer still uses them.
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
