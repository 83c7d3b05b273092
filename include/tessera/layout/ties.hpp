// Which units use the tensors of which earlier units (an output layer that shares the embedding). Units are numbers.
#pragma once

#include <cstdint>

#include <tessera/core/digest.hpp>
#include <tessera/core/hash_index.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::layout {

class Ties {
 public:
  /// Ties `user` to `owner`. A second call has no effect.
  constexpr void add(int user, int owner) {
    if (index_.find_or_add(hash_of(user, owner), [&](int i) { return is(i, user, owner); }) >= 0) return;
    while (std::ssize(latest_) <= max(user, owner)) latest_.push_back({});
    Latest& of_user = latest_[to_size(user)];
    Latest& of_owner = latest_[to_size(owner)];
    const int tie = static_cast<int>(ties_.size());
    ties_.push_back({user, owner, of_user.to_owner, of_owner.from_user});
    of_user.to_owner = of_owner.from_user = tie;
  }

  constexpr bool tied(int user, int owner) const {
    return index_.find(hash_of(user, owner), [&](int i) { return is(i, user, owner); }) >= 0;
  }
  /// Whether any unit was tied to `owner`.
  constexpr bool has_users(int owner) const { return latest(owner).from_user >= 0; }

  /// Calls visit(owner) for each unit that `user` was tied to, and visit(user) for each unit that was tied to `owner`.
  /// The latest ties come first.
  template <class Visit>
  constexpr void for_each_owner(int user, Visit visit) const {
    for (int i = latest(user).to_owner; i >= 0; i = ties_[to_size(i)].owner_before) visit(ties_[to_size(i)].owner);
  }
  template <class Visit>
  constexpr void for_each_user(int owner, Visit visit) const {
    for (int i = latest(owner).from_user; i >= 0; i = ties_[to_size(i)].user_before) visit(ties_[to_size(i)].user);
  }

  /// Calls visit(user, owner) for each tie, in the order in which they were added.
  template <class Visit>
  constexpr void for_each(Visit visit) const {
    for (const Tie& tie : ties_) visit(tie.user, tie.owner);
  }

 private:
  struct Tie {
    int user, owner;
    int owner_before, user_before;  // the previous ties of the same user and of the same owner; -1: none
  };
  struct Latest {
    int to_owner = -1, from_user = -1;  // the latest ties of a unit; -1: none
  };

  constexpr Latest latest(int unit) const {
    return to_size(unit) < latest_.size() ? latest_[to_size(unit)] : Latest{};
  }
  static constexpr std::uint64_t hash_of(int user, int owner) {
    return core::mixed_hash(static_cast<std::uint64_t>(user) << 32 | static_cast<std::uint32_t>(owner));
  }
  constexpr bool is(int i, int user, int owner) const {
    return ties_[to_size(i)].user == user && ties_[to_size(i)].owner == owner;
  }

  core::List<Tie> ties_;
  core::List<Latest> latest_;  // by unit
  core::HashIndex index_;
};

}  // namespace tessera::layout
