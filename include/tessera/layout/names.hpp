// Names, stored in one array of characters and found by hash. (clang cannot use std::string in constant expressions
// with the standard library of g++ 12.)
#pragma once

#include <string_view>

#include <tessera/core/digest.hpp>
#include <tessera/core/hash_index.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::layout {

/// Names, numbered 0, 1, 2, ... in the order in which they are added. A name is unique within its scope.
class Names {
 public:
  /// The number of a name, or -1.
  constexpr int find(int scope, std::string_view name) const {
    return index_.find(hash_of(scope, name), [&](int i) { return is(i, scope, name); });
  }

  /// Adds a name. Returns false and changes nothing if the scope has the name. Throws std::bad_alloc.
  constexpr bool add(int scope, std::string_view name) {
    if (index_.find_or_add(hash_of(scope, name), [&](int i) { return is(i, scope, name); }) >= 0) return false;
    const int begin = static_cast<int>(letters_.size());
    for (const char letter : name) letters_.push_back(letter);
    entries_.push_back({scope, begin, static_cast<int>(letters_.size())});
    return true;
  }

  constexpr std::string_view operator[](int i) const {
    const Entry& of = entries_[to_size(i)];
    return {letters_.data() + of.begin, to_size(of.end - of.begin)};
  }

 private:
  struct Entry {
    int scope, begin, end;
  };

  // Names of a model are often numbered. Names that differ only in the last character get neighbouring slots of the
  // hash table, and a cache line has eight slots: adding 100,000 names takes three quarters of the time (bench/layout).
  static constexpr std::uint64_t hash_of(int scope, std::string_view name) {
    if (name.empty()) return core::mixed_hash(static_cast<std::uint64_t>(scope));
    const std::string_view but_one = name.substr(0, name.size() - 1);
    const std::uint64_t last = static_cast<unsigned char>(name.back());
    return core::mixed_hash(core::Digest{}.add(but_one).value() + static_cast<std::uint64_t>(scope)) + (last << 46);
  }
  constexpr bool is(int i, int scope, std::string_view name) const {
    return entries_[to_size(i)].scope == scope && (*this)[i] == name;
  }

  core::List<char> letters_;
  core::List<Entry> entries_;
  core::HashIndex index_;
};

}  // namespace tessera::layout
