#include <doctest/doctest.h>

#include <tessera/engine/memory/gradient_slots.hpp>

namespace tessera::engine {
namespace {

using Slots = GradientSlots<int>;

TEST_CASE("a slot belongs to a bucket until it is sent, and the slot that was sent first is reused first") {
  Slots slots(3, 6);
  for (int b = 5; b >= 3; --b) {
    CHECK(slots.find(b) == nullptr);
    Slots::Slot* const slot = slots.take(b);
    REQUIRE(slot);
    CHECK(slot->bucket == b);
    CHECK(slots.find(b) == slot);
  }
  CHECK(slots.take(2) == nullptr);
  Slots::Slot* const of_4 = slots.find(4);
  Slots::Slot* const of_5 = slots.find(5);
  slots.send(4, 40);
  slots.send(5, 50);
  CHECK(slots.find(4) == nullptr);
  CHECK(slots.take(2) == of_4);
  CHECK(of_4->reduced == 40);
  CHECK(slots.take(1) == of_5);
  CHECK(of_5->reduced == 50);
  CHECK(slots.take(0) == nullptr);
}

TEST_CASE("a slot that was never sent is taken before one that was") {
  Slots slots(3, 9);
  slots.take(8);
  slots.send(8, 1);
  for (int b = 7; b >= 6; --b) CHECK(slots.take(b)->reduced == 0);
  CHECK(slots.take(5)->reduced == 1);
}

TEST_CASE("after a reset every slot is free and there is nothing to wait for") {
  Slots slots(2, 4);
  slots.take(3);
  slots.send(3, 7);
  slots.take(2);
  slots.reset();
  CHECK(slots.find(2) == nullptr);
  for (int b = 3; b >= 2; --b) CHECK(slots.take(b)->reduced == 0);
  CHECK(slots.take(1) == nullptr);
}

TEST_CASE("a thousand buckets use two slots alternately") {
  Slots slots(2, 1000);
  Slots::Slot* last = nullptr;
  for (int b = 999; b >= 0; --b) {
    Slots::Slot* const slot = slots.take(b);
    REQUIRE(slot);
    CHECK(slot != last);
    last = slot;
    slots.send(b, b);
  }
}

TEST_CASE("without slots there is none to take") {
  Slots slots(0, 1);
  CHECK(slots.find(0) == nullptr);
  CHECK(slots.take(0) == nullptr);
}

}  // namespace
}  // namespace tessera::engine
