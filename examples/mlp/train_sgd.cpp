#include "mlp/train_on_host.hpp"

namespace mlp {

example::Result train_sgd(const example::Options& options, const Split& digits) {
  return train_on_host<tessera::Sgd>(options, digits);
}

}  // namespace mlp
