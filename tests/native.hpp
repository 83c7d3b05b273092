// Local, declared as a communicator with native reductions: the engine must not rely on an order. (Local still has
// one.)
#pragma once

#include <tessera/comm/local/local.hpp>

namespace tessera::testing {

struct Native : Local {
  static constexpr bool ordered = false;
  explicit Native(const Local& local) : Local(local) {}
};
static_assert(Communicator<Native>);

}  // namespace tessera::testing
