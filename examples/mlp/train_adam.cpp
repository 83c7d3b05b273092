#include "mlp/train_on_host.hpp"

namespace mlp {

example::Result train_adam(const example::Options& options, const Split& digits) {
  return train_on_host<tessera::Adam>(options, digits);
}

}  // namespace mlp
