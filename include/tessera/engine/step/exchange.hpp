// All-gathers of words, for comparisons that are not part of the step's all-reduce.
#pragma once

#include <cstdint>
#include <span>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::engine {

/// The words of all ranks, rank 0's first. mine: this rank's, as many on every rank. Blocks on every executor until all
/// ranks have called it. Throws CommError.
template <class Executor, class Queue>
core::List<std::uint64_t> gather_words(const Executor& executor, Queue& queue, int rank, int world,
                                       std::span<const std::uint64_t> mine, const Tag& tag) {
  const index_t n = std::ssize(mine);
  core::List<std::uint64_t> words(to_size(n * world));
  Executor apart(executor);  // a copy, so that its bytes are not in the optimizer's count
  auto buffer = apart.template allocate<std::uint64_t>(n * world);
  const std::span<std::uint64_t> all = buffer.span();
  const std::span<std::uint64_t> own = all.subspan(to_size(n * rank), mine.size());
  apart.upload(own, mine.data());
  const auto arrived = queue.post(AllGather(std::span<const std::uint64_t>(own), all, n, tag), apart.record());
  apart.wait(arrived);
  apart.download(std::span<const std::uint64_t>(all), words.data());
  if constexpr (!Executor::synchronous) arrived.wait();  // throws if the collective failed: the words are undefined
  return words;
}

template <class Executor, class Queue>
class Exchange {
 public:
  /// room: [>= world] words of executor memory that nothing else uses during all().
  Exchange(Executor& executor, Queue& queue, std::span<std::uint64_t> room, int rank, int world)
      : executor_(&executor),
        queue_(&queue),
        room_(room.first(to_size(world))),
        rank_(rank),
        words_(to_size(world)) {}

  /// Every rank's `mine`, by rank. Blocks on every executor until all ranks have called it. Throws CommError.
  const core::List<std::uint64_t>& all(std::uint64_t mine, const Tag& tag) {
    const auto own = room_.subspan(to_size(rank_), 1);
    executor_->upload(own, &mine);
    const auto arrived =
        queue_->post(AllGather(std::span<const std::uint64_t>(own), room_, 1, tag), executor_->record());
    executor_->wait(arrived);
    executor_->download(std::span<const std::uint64_t>(room_), words_.data());
    if constexpr (!Executor::synchronous) arrived.wait();  // throws if the collective failed: the words are undefined
    return words_;
  }

  /// The first rank whose word differs from rank 0's, or 0.
  static int differs(const core::List<std::uint64_t>& words) {
    for (std::size_t r = 1; r < words.size(); ++r)
      if (words[r] != words[0]) return static_cast<int>(r);
    return 0;
  }

 private:
  Executor* executor_;
  Queue* queue_;
  std::span<std::uint64_t> room_;
  int rank_;
  core::List<std::uint64_t> words_;
};

}  // namespace tessera::engine
