// Local as a library's native reduction looks to the engine: it promises no order. (Its sums do keep one.)
#pragma once

#include <tessera/comm/local/local.hpp>

namespace tessera::testing {

struct Native : Local {
  static constexpr bool ordered = false;
  explicit Native(const Local& local) : Local(local) {}
};
static_assert(Communicator<Native>);

}  // namespace tessera::testing
