// How ranks make sure that they do the same: once when they are built, and in every step before anything is committed.
// Design section 4, point 8.
#pragma once

#include <array>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/engine/clip.hpp>
#include <tessera/engine/storage.hpp>

namespace tessera {

/// What one rank was built from, of a size that does not depend on what it was built from.
struct Blueprint {
  struct Part {
    std::array<char, 32> what{};
    std::array<char, 160> text{};
    std::uint64_t digest = 0;
  };

  /// A buffer of the caller's, by address; a process is told apart by a number that it drew.
  struct Memory {
    std::uint64_t process = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    bool meets(const Memory& other) const { return process == other.process && begin < other.end && other.begin < end; }
  };

  std::array<Part, 8> parts{};
  std::array<Memory, 2> memory{};   ///< parameters and gradients
  std::array<char, 512> problem{};  ///< why this rank cannot be built; empty if it can

  void set(int part, std::string_view what, std::string_view text, std::uint64_t digest) {
    copy(what, parts[part].what);
    copy(text, parts[part].text);
    parts[part].digest = digest;
  }
  void refuse(std::string_view why) { copy(why, problem); }

 private:
  template <std::size_t n>
  static void copy(std::string_view from, std::array<char, n>& to) {
    to.fill(0);
    std::memcpy(to.data(), from.data(), min(from.size(), n - 1));
  }
};

/// Throws, on every rank alike, AgreementError that names the first two ranks whose blueprints differ and how, or
/// BufferError where ranks were handed the same memory.
inline void compare(const List<Blueprint>& ranks) {
  for (std::size_t r = 1; r < ranks.size(); ++r)
    for (std::size_t p = 0; p < ranks[r].parts.size(); ++p) {
      const Blueprint::Part& first = ranks[0].parts[p];
      const Blueprint::Part& other = ranks[r].parts[p];
      if (first.digest == other.digest && first.text == other.text) continue;
      throw AgreementError(
          message({"ranks differ in ", first.what.data(), ": rank 0 has ", first.text.data(), ", rank ", r, " has ",
                   other.text.data(), ": build the optimizer alike on every rank"}));
    }
  for (std::size_t r = 1; r < ranks.size(); ++r)
    for (std::size_t other = 0; other < r; ++other)
      for (const Blueprint::Memory& mine : ranks[r].memory)
        for (const Blueprint::Memory& theirs : ranks[other].memory)
          if (mine.meets(theirs))
            throw BufferError(message({"ranks ", other, " and ", r,
                                       " were handed buffers that overlap: each rank needs "
                                       "parameters and gradients of its own"}));
}

/// Sends this rank's blueprint to all others and compares. A rank that cannot be built makes all throw BufferError,
/// OptionError or the like: the caller rethrows its own, the others get PeerError that names it. Blocks.
template <class Executor, class Queue>
void agree(Executor executor, Queue& queue, int rank, int world, const Blueprint& mine) {
  constexpr index_t words = sizeof(Blueprint) / sizeof(std::uint64_t);
  static_assert(sizeof(Blueprint) % sizeof(std::uint64_t) == 0);
  auto buffer = executor.template allocate<std::uint64_t>(words * world);
  const std::span<std::uint64_t> all = buffer.span();
  std::memcpy(all.data() + rank * words, &mine, sizeof mine);
  executor.wait(queue.all_gather(std::span<const std::uint64_t>(all.subspan(rank * words, words)), all, words,
                                 Tag{"blueprint", 0, 0}, executor.record()));
  List<Blueprint> ranks(world);
  std::memcpy(static_cast<void*>(ranks.data()), all.data(), all.size_bytes());
  for (int r = 0; r < world; ++r)
    if (ranks[r].problem[0] != 0 && r != rank)
      throw PeerError(message({"rank ", r, " could not be built: ", ranks[r].problem.data()}));
  compare(ranks);
}

/// The one all-reduce of a step: the norm's digits are summed exactly; beside them every rank has two words of its own,
/// the digest of what it did and the first element that was not finite.
///
///     | digits of the sum of squares | digest of rank 0 .. N-1 | 1 + first non-finite place of rank 0 .. N-1, or 0 |
template <class Executor>
class StepAgreement {
 public:
  static constexpr index_t words(int world) { return ExactSum::limbs + 2 * index_t{world}; }

  StepAgreement(Executor& executor, const Plan& plan, int rank, int world)
      : executor_(&executor), buffer_(executor, plan.agreement), rank_(rank), world_(world) {}

  /// All-reduces and waits. Throws AgreementError, the same on every rank, where digests differ.
  template <class Queue>
  void exchange(Queue& queue, SquareSum& mine, std::uint64_t digest, index_t step) {
    const std::span<std::uint64_t> words = buffer_.span();
    for (std::uint64_t& word : words) word = 0;
    mine.squares.normalise();
    for (int i = 0; i < ExactSum::limbs; ++i) words[i] = mine.squares.digit(i);
    digests()[rank_] = digest;
    places()[rank_] = static_cast<std::uint64_t>(mine.first_non_finite + 1);
    executor_->wait(queue.all_reduce(words, Tag{"norm and agreement of step", step, step}, executor_->record()));
    for (int r = 1; r < world_; ++r)
      if (digests()[r] != digests()[0])
        throw AgreementError(message({"step ", step, ": rank ", r,
                                      " did not do what rank 0 did (collectives or hyperparameters differ); "
                                      "nothing was applied"}));
  }

  double square_sum() const {
    ExactSum sum;
    for (int i = 0; i < ExactSum::limbs; ++i) sum.set_digit(i, buffer_.data()[i]);
    return sum.value();
  }

  /// The first element of the trainable space that is not finite on some rank, or -1.
  index_t first_non_finite() const {
    index_t first = -1;
    for (const std::uint64_t place : places())
      if (place != 0 && (first < 0 || static_cast<index_t>(place) - 1 < first)) first = static_cast<index_t>(place) - 1;
    return first;
  }

 private:
  std::span<std::uint64_t> digests() const { return buffer_.span().subspan(ExactSum::limbs, world_); }
  std::span<std::uint64_t> places() const { return buffer_.span().subspan(ExactSum::limbs + world_, world_); }

  Executor* executor_;
  Storage<Executor, std::uint64_t> buffer_;
  int rank_;
  int world_;
};

}  // namespace tessera
