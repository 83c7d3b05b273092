// A communicator that records its collectives. Tests read the wire volume from the records.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <tessera/comm/decorators/decorator.hpp>

namespace tessera {

/// One collective as this rank called it. sent_elements: what this rank sends with an algorithm that sends nothing
/// twice (a ring). sent_between_groups: the elements of those that go to ranks of other groups, if the call has groups.
struct Record {
  Collective kind{};
  Tag tag;
  index_t in_elements = 0;
  index_t out_elements = 0;
  ElementType type;  ///< of the elements that are sent
  index_t sent_elements = 0;
  index_t sent_between_groups = 0;
  Ranks over = Ranks::world;
};

/// Forwards to Comm and records every call. Copies and their queues share one log.
template <class Comm>
class Recording : public CommunicatorDecorator<Comm> {
  struct Log {
    std::mutex mutex;
    std::vector<Record> records;
  };

 public:
  class Queue : public QueueDecorator<typename Comm::Queue> {
    using Below = QueueDecorator<typename Comm::Queue>;

   public:
    using Event = typename Below::Event;

    /// A call of several pieces is one record.
    template <CollectiveCall Call>
      requires Posts<typename Comm::Queue, Call>
    Event post(const Call& call, const Event& after = {}) {
      const Event event = Below::post(call, after);  // first: it throws for calls that must not be recorded
      Record record{Call::kind, call.tag, 0, 0, element_type<typename Call::Input>(), 0, 0, call.over};
      for (const auto& piece : call.pieces) add(record, call, vector_elements<Call>(piece), piece.part);
      const std::scoped_lock lock(log_->mutex);
      log_->records.push_back(record);
      return event;
    }
    template <CollectiveCall Call>
    Event post(std::span<const Call> calls, const Event& after = {}) {
      return communicator::post_each(*this, calls, after);
    }

   private:
    friend Recording;

    Queue(Recording& comm, std::chrono::nanoseconds timeout)
        : Below(comm.below(), timeout), log_(comm.log_), rank_(comm.rank()), size_(comm.size()) {}

    template <class Call>
    void add(Record& record, const Call& call, index_t n, index_t part) const {
      const core::Groups groups = call.groups(size_);
      const index_t ranks = groups.ranks(call.over);
      const index_t own = Slice(n, part, groups.slice(call.over, rank_)).size;
      if constexpr (Call::kind == Collective::reduce_scatter) {
        add(record, n, own, n - own);
        add_between_groups(record, n - own, n - of_group(groups, n, part));
      } else {
        index_t sent = 0, in = n;
        if constexpr (Call::kind == Collective::all_gather) {
          sent = own * (ranks - 1);
          in = own;
        } else if constexpr (Call::kind == Collective::all_reduce) {
          sent = 2 * (ranks - 1) * n / ranks;
        } else if constexpr (Call::kind == Collective::all_to_all) {
          sent = n / ranks * (ranks - 1);
        } else {
          sent = groups.index(call.over, rank_) == call.root ? (ranks - 1) * n : 0;
        }
        add(record, in, n, sent);
        add_between_groups(record, sent, sent * (ranks - groups.size) / max<index_t>(ranks - 1, 1));
      }
    }
    static void add(Record& record, index_t in, index_t out, index_t sent) noexcept {
      record.in_elements += in;
      record.out_elements += out;
      record.sent_elements += sent;
    }
    static void add_between_groups(Record& record, index_t sent, index_t of_world) noexcept {
      record.sent_between_groups += record.over == Ranks::world ? of_world : record.over == Ranks::peers ? sent : 0;
    }

    // The elements that the ranks of this rank's group own of a vector that is sharded over the world.
    index_t of_group(const core::Groups& groups, index_t n, index_t part) const {
      index_t sum = 0;
      const int first = groups.first(Ranks::group, rank_);
      for (int r = first; r < first + groups.size; ++r) sum += Slice(n, part, groups.slice(Ranks::world, r)).size;
      return sum;
    }

    std::shared_ptr<Log> log_;
    int rank_;
    int size_;
  };

  explicit Recording(Comm comm) : CommunicatorDecorator<Comm>(std::move(comm)), log_(std::make_shared<Log>()) {}

  Queue queue(std::chrono::nanoseconds timeout) { return Queue(*this, timeout); }

  /// All calls so far, by all copies, in order.
  std::vector<Record> log() const {
    const std::scoped_lock lock(log_->mutex);
    return log_->records;
  }

  void clear() {
    const std::scoped_lock lock(log_->mutex);
    log_->records.clear();
  }

  /// Elements that this rank sent in collectives of these kinds; without kinds, in all collectives.
  template <class... Kinds>
  index_t sent(Kinds... kinds) const {
    index_t sum = 0;
    for (const Record& record : log())
      if (sizeof...(kinds) == 0 || ((record.kind == kinds) || ...)) sum += record.sent_elements;
    return sum;
  }

 private:
  std::shared_ptr<Log> log_;
};

}  // namespace tessera
