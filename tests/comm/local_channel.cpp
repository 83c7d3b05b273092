#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/comm/local_channel.hpp>

namespace tessera::local {
namespace {

const List<char> nobody(3);

// Rank `rank` joins the live epoch's next operation.
void join(Channel& c, int rank) {
  Operation& op = c.ring.at(c.posted[rank]++, c.completed);
  op.call = {Collective::all_reduce, element_type<float>(), element_type<float>(), 1, 0, 0, {"norm", 5, 6}, nullptr};
  if (++op.joined == 3) ++c.full;
}

TEST_CASE("tickets keep epoch and sequence") {
  const Place place = Place::of(Place{7, 123456}.ticket());
  CHECK(place.epoch == 7);
  CHECK(place.sequence == 123456);
}

TEST_CASE("who has not joined is named in a list") {
  Channel c(3);
  join(c, 1);
  CHECK(c.missing(Duration::milliseconds(50)) ==
        "ranks 0 and 2 have not called all_reduce of 1 float (norm 5, pass 6) after 50 ms");
  join(c, 0);
  CHECK(c.missing(Duration::milliseconds(50)).rfind("rank 2 has not called", 0) == 0);
}

TEST_CASE("an operation may still come until a rank that it needs drops, leaves or returns") {
  std::string why;
  Channel c(3);
  join(c, 0);
  CHECK(c.why_never(0, {0, 0}, nobody, why) == -1);
  CHECK(c.why_never(0, {0, 0}, List<char>{0, 0, 1}, why) == 2);
  CHECK(why.find("rank 2 has returned") == 0);
  c.left[1] = 1;
  CHECK(c.why_never(0, {0, 0}, nobody, why) == 1);
  CHECK(why.find("rank 1 has left the queue") == 0);
  c.left[1] = 0;
  c.close(2, nobody);
  CHECK(c.why_never(0, {0, 0}, nobody, why) == 2);
  CHECK(why.find("rank 2 dropped pass 6") == 0);
}

TEST_CASE("what all had joined before a drop is completed, and a new epoch counts anew") {
  Channel c(3);
  for (int r = 0; r < 3; ++r) join(c, r);
  join(c, 0);
  CHECK_FALSE(c.is_completed({0, 0}));
  c.completed = 1;
  c.close(1, nobody);
  c.begin_epoch();
  CHECK(c.is_completed({0, 0}));
  CHECK_FALSE(c.is_completed({0, 1}));
  CHECK_FALSE(c.is_completed({1, 0}));
  CHECK(c.live == 1);
  CHECK(c.full == 0);
}

}  // namespace
}  // namespace tessera::local
