#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include <tessera/layout/ties.hpp>

namespace tessera::layout {
namespace {

TEST_CASE("a unit's owners and users are visited, the latest first, and a tie that is added twice counts once") {
  Ties ties;
  ties.add(3, 0);
  ties.add(5, 0);
  ties.add(5, 2);
  ties.add(5, 0);
  std::vector<int> owners, users;
  ties.for_each_owner(5, [&](int owner) { owners.push_back(owner); });
  ties.for_each_user(0, [&](int user) { users.push_back(user); });
  CHECK(owners == std::vector<int>{2, 0});
  CHECK(users == std::vector<int>{5, 3});
  std::vector<std::pair<int, int>> all;
  ties.for_each([&](int user, int owner) { all.emplace_back(user, owner); });
  CHECK(all == std::vector<std::pair<int, int>>{{3, 0}, {5, 0}, {5, 2}});
}

TEST_CASE("a tie has a direction, and a unit without ties has no users") {
  Ties ties;
  ties.add(1, 0);
  CHECK(ties.tied(1, 0));
  CHECK(!ties.tied(0, 1));
  CHECK(ties.has_users(0));
  CHECK(!ties.has_users(1));
  CHECK(!ties.has_users(1000));
}

static_assert([] {
  Ties ties;
  ties.add(2, 1);
  return ties.tied(2, 1) && !ties.has_users(2);
}());

}  // namespace
}  // namespace tessera::layout
