#include "mlp/train.hpp"

namespace mlp {

example::Result train_adamw(const example::Options& options, const Digits& training, const Digits& held_out) {
  return train<tessera::AdamW>(options, training, held_out);
}

}  // namespace mlp
