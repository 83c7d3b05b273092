#include "transformer/train.hpp"

namespace transformer {

Outcome train_sgd(const Options& options, const Text& text) { return train<tessera::Sgd>(options, text); }

}  // namespace transformer
