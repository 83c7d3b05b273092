// Checksums of a checkpoint: XXH3 with 64 bits, of blocks of a file's data and of texts. They find damage, not forgery.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera::checkpoint {

/// 16 hexadecimal digits.
inline std::string hex(std::uint64_t number) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += digits[number >> shift & 15];
  return text;
}

inline std::uint64_t checksum(std::span<const std::byte> bytes) noexcept { return XXH3_64bits(bytes.data(), bytes.size()); }
inline std::uint64_t checksum(std::string_view text) noexcept { return XXH3_64bits(text.data(), text.size()); }

/// The checksums of a stream of bytes, one per block of `block` bytes; the last block may be short.
class BlockChecksums {
 public:
  explicit BlockChecksums(index_t block) : block_(block) { XXH3_64bits_reset(&state_); }

  void add(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto part = bytes.first(to_size(min(std::ssize(bytes), block_ - filled_)));
      XXH3_64bits_update(&state_, part.data(), part.size());
      filled_ += std::ssize(part);
      if (filled_ == block_) close();
      bytes = bytes.subspan(part.size());
    }
  }

  /// The checksums of all blocks, as hexadecimal digits one after another. Ends the stream.
  std::string text() {
    if (filled_ > 0) close();
    std::string all;
    for (const std::uint64_t sum : sums_) all += hex(sum);
    return all;
  }

 private:
  void close() {
    sums_.push_back(XXH3_64bits_digest(&state_));
    XXH3_64bits_reset(&state_);
    filled_ = 0;
  }

  index_t block_;
  index_t filled_ = 0;
  std::vector<std::uint64_t> sums_;
  XXH3_state_t state_;
};

/// `json`, which is an object with members, with a checksum of the rest of the text as its first member.
inline std::string with_checksum(std::string_view json) {
  const std::string rest = message({"\n", json.substr(1), "\n"});
  return message({"{\"checksum\": \"", hex(checksum(rest)), "\",", rest});
}

/// Throws CheckpointError unless `text` is one of with_checksum().
inline void check_text(const std::string& path, std::string_view text) {
  constexpr std::string_view begin = "{\"checksum\": \"", end = "\",";
  constexpr std::size_t size = begin.size() + 16 + end.size();
  if (text.size() >= size && text.starts_with(begin) && text.substr(size - end.size()).starts_with(end) &&
      text.substr(begin.size(), 16) == hex(checksum(text.substr(size))))
    return;
  throw CheckpointError(message({path, ": is damaged: its checksum is not that of its text"}));
}

}  // namespace tessera::checkpoint
