// A communicator that writes down what goes through it: tests read the wire volume from it.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// One collective as this rank called it. sent_elements: what this rank puts on the wire, by an algorithm that sends
/// nothing twice (a ring).
struct Record {
  Collective kind{};
  Tag tag;
  index_t in_elements = 0;
  index_t out_elements = 0;
  ElementType type;  ///< of what is sent
  index_t sent_elements = 0;
};

/// Does what Comm does. Copies, and the queues they make, share one log.
template <class Comm>
class Recording {
  struct Log {
    std::mutex mutex;
    std::vector<Record> records;
  };

 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = Comm::ordered;

  template <class In, class Out>
  static constexpr bool stages = stages_reductions<Comm, In, Out>();

  class Queue {
   public:
    using Event = typename Executor::Event;

    template <class In, class Out>
    Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag,
                         const Event& after = {}) {
      const index_t own = Slice(std::ssize(in), part, rank_).size;
      return note(queue_.reduce_scatter(in, out, part, scale, tag, after),
                  {Collective::reduce_scatter, tag, std::ssize(in), own, element_type<In>(), std::ssize(in) - own});
    }

    template <class T>
    Event all_gather(std::span<const T> in, std::span<T> out, index_t part, Tag tag, const Event& after = {}) {
      const index_t own = Slice(std::ssize(out), part, rank_).size;
      return note(queue_.all_gather(in, out, part, tag, after),
                  {Collective::all_gather, tag, own, std::ssize(out), element_type<T>(), own * (size_ - 1)});
    }

    template <class T>
    Event all_reduce(std::span<T> inout, Tag tag, const Event& after = {}) {
      const index_t n = std::ssize(inout);
      return note(queue_.all_reduce(inout, tag, after),
                  {Collective::all_reduce, tag, n, n, element_type<T>(), 2 * (size_ - 1) * n / size_});
    }

    template <class T>
    Event all_to_all(std::span<const T> in, std::span<T> out, Tag tag, const Event& after = {}) {
      const index_t n = std::ssize(in);
      return note(queue_.all_to_all(in, out, tag, after),
                  {Collective::all_to_all, tag, n, n, element_type<T>(), n / size_ * (size_ - 1)});
    }

    template <class T>
    Event broadcast(std::span<T> inout, int root, Tag tag, const Event& after = {}) {
      const index_t n = std::ssize(inout);
      return note(queue_.broadcast(inout, root, tag, after),
                  {Collective::broadcast, tag, n, n, element_type<T>(), rank_ == root ? (size_ - 1) * n : 0});
    }

    /// Of a queue whose producers may be streams of a device.
    template <class Stream>
    void join(const Stream& producer) {
      queue_.join(producer);
    }
    void drop() noexcept { queue_.drop(); }
    void leave() noexcept { communicator::leave(queue_); }
    void lend(std::span<std::byte> staging) noexcept requires StagingQueue<typename Comm::Queue> {
      queue_.lend(staging);
    }
    void time_on(const QueueTracks& tracks) requires TimedQueue<typename Comm::Queue> { queue_.time_on(tracks); }

   private:
    friend Recording;

    Queue(Recording& comm, std::chrono::nanoseconds timeout)
        : queue_(comm.comm_.queue(timeout)), log_(comm.log_), rank_(comm.rank()), size_(comm.size()) {}

    // After the call: what throws was not sent.
    Event note(Event event, const Record& record) {
      const std::scoped_lock lock(log_->mutex);
      log_->records.push_back(record);
      return event;
    }

    typename Comm::Queue queue_;
    std::shared_ptr<Log> log_;
    int rank_;
    index_t size_;
  };

  explicit Recording(Comm comm) : comm_(std::move(comm)), log_(std::make_shared<Log>()) {}

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Executor executor() const { return comm_.executor(); }
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(*this, timeout); }

  /// What was called so far, by all copies, in order.
  std::vector<Record> log() const {
    const std::scoped_lock lock(log_->mutex);
    return log_->records;
  }

  void clear() {
    const std::scoped_lock lock(log_->mutex);
    log_->records.clear();
  }

  /// Elements that this rank sent in collectives of these kinds; without any, in all.
  template <class... Kinds>
  index_t sent(Kinds... kinds) const {
    index_t sum = 0;
    for (const Record& record : log())
      if (sizeof...(kinds) == 0 || ((record.kind == kinds) || ...)) sum += record.sent_elements;
    return sum;
  }

 private:
  Comm comm_;
  std::shared_ptr<Log> log_;
};

}  // namespace tessera
