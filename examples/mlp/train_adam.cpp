#include "mlp/train.hpp"

namespace mlp {

example::Result train_adam(const example::Options& options, const Digits& training, const Digits& held_out) {
  return train<tessera::Adam>(options, training, held_out);
}

}  // namespace mlp
