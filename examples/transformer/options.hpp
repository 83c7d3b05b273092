// The options of a run: the common ones, the model's shape, and those that affect and limit memory.
#pragma once

#include <cstdint>

#include "common/options.hpp"
#include "transformer/model.hpp"

namespace transformer {

struct Options : example::Options {
  Shape shape{.layers = 8, .width = 96, .heads = 3, .context = 64};
  std::int64_t bucket_bytes = std::int64_t{512} << 10;  // one block, so that few are in flight at a time
  int prefetch = 1;
  std::uint64_t limit_memory = 0;  ///< bytes per rank; 0: unlimited

  Options() {
    epochs = 1;
    batch = 16;
  }
};

}  // namespace transformer
