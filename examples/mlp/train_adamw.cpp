#include "mlp/train_on_host.hpp"

namespace mlp {

example::Result train_adamw(const example::Options& options, const Split& digits) {
  return train_on_host<tessera::AdamW>(options, digits);
}

}  // namespace mlp
