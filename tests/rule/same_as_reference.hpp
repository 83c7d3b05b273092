// Compares a rule with the serial reference: one element, fifty steps.
#pragma once

#include <doctest/doctest.h>

#include <bit>
#include <cstdint>

#include "reference/reference.hpp"
#include "training.hpp"

namespace tessera::testing {

template <class Rule>
void check_same_as_reference(const Rule& rule, const reference::Rule& plain) {
  float weight = 0.75f, expected = 0.75f;
  typename Rule::State state{};
  reference::State expected_state;
  for (int step = 1; step <= 50; ++step) {
    const float gradient = uniform(9, static_cast<std::uint64_t>(step));
    weight = rule(weight, gradient, state, rule.scalars(step));
    expected = reference::updated(plain, step, expected, gradient, expected_state);
    REQUIRE(std::bit_cast<std::uint32_t>(weight) == std::bit_cast<std::uint32_t>(expected));
  }
}

}  // namespace tessera::testing
