#include "mlp/train.hpp"

namespace mlp {

example::Result train_sgd(const example::Options& options, const Digits& training, const Digits& held_out) {
  return train<tessera::Sgd>(options, training, held_out);
}

}  // namespace mlp
