// What the ranks of a save or a load tell each other: whether each of them succeeded, and a few words. An error on one
// rank is an error on all.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/message.hpp>
#include <tessera/engine/step/exchange.hpp>

namespace tessera::checkpoint {

/// The error of `work`, or null.
template <class Work>
std::exception_ptr caught(const Work& work) {
  try {
    work();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

template <class Comm>
class RanksOf {
 public:
  using Executor = typename Comm::Executor;

  /// Makes a queue of its own.
  RanksOf(Comm& comm, std::chrono::nanoseconds timeout)
      : rank_(comm.rank()), world_(comm.size()), executor_(comm.executor()), queue_(comm.queue(timeout)) {}

  int rank() const noexcept { return rank_; }
  int world() const noexcept { return world_; }
  Executor& executor() noexcept { return executor_; }

  /// Called with this rank's error, or null, and a word. Returns the words of all ranks. If a rank failed, it rethrows
  /// its error, and other ranks throw PeerError: "`where`: rank 3 `what`". Blocks until all ranks have called it.
  core::List<std::uint64_t> require_all(const std::exception_ptr& problem, std::uint64_t word, const std::string& where,
                                        const char* what) {
    const std::uint64_t mine[]{problem != nullptr, word};
    const auto all = engine::gather_words(executor_, queue_, rank_, world_, mine, Tag{"checkpoint", 0, 0});
    if (problem) std::rethrow_exception(problem);
    core::List<std::uint64_t> words;
    for (int r = 0; r < world_; ++r) {
      if (all[to_size(2 * r)]) throw PeerError(message({where, ": rank ", r, " ", what, "; it says why"}));
      words.push_back(all[to_size(2 * r + 1)]);
    }
    return words;
  }

 private:
  int rank_;
  int world_;
  Executor executor_;
  typename Comm::Queue queue_;
};

/// Calls visit(first, bytes) for chunks of `elements`, in order: all at once in the host's memory, or copies of at most
/// 1 MiB from a device. first: the index of a chunk's first element.
template <class Executor, class T, class Visit>
void for_each_chunk(Executor& executor, std::span<const T> elements, const Visit& visit) {
  if constexpr (Executor::synchronous) {
    visit(0, std::as_bytes(elements));
  } else {
    constexpr std::size_t most = (std::size_t{1} << 20) / sizeof(T);
    std::vector<T> host(min(elements.size(), most));
    for (std::size_t first = 0; first < elements.size(); first += most) {
      const auto part = elements.subspan(first, min(elements.size() - first, most));
      executor.download(part, host.data());
      visit(static_cast<index_t>(first), std::as_bytes(std::span(host).first(part.size())));
    }
  }
}

}  // namespace tessera::checkpoint
