// What may be chosen of a run: what all examples have, the model's shape, and what moves and limits memory.
#pragma once

#include <cstdint>

#include "common/options.hpp"
#include "transformer/model.hpp"

namespace transformer {

struct Options : example::Options {
  Shape shape{.layers = 8, .width = 96, .heads = 3, .context = 64};
  std::int64_t bucket_bytes = std::int64_t{512} << 10;  // a block, so that few travel at a time
  int prefetch = 1;
  std::uint64_t limit_memory = 0;  ///< bytes a rank; 0: none

  Options() {
    epochs = 1;
    batch = 16;
  }
};

}  // namespace transformer
