// The tag of a collective over a bucket, with the names that the user gave to its units.
#pragma once

#include <tessera/comm/communicator.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

/// {"gradients of bucket", 4, 17} with the names of the bucket's first and last unit. A flat layout has no unit names.
inline Tag bucket_tag(const char* what, const Sharding& sharding, int b, index_t pass) {
  const Layout& layout = sharding.layout();
  const layout::Bucket& bucket = sharding.bucket(b);
  if (layout.is_flat() || bucket.first_unit == bucket.last_unit) return {what, b, pass};
  return {what, b, pass, {layout.name(Unit{bucket.first_unit}), layout.name(Unit{bucket.last_unit - 1})}};
}

}  // namespace tessera::engine
