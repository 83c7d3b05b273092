#include "transformer/train.hpp"

namespace transformer {

Outcome train_adam(const Options& options, const Text& text) { return train<tessera::Adam>(options, text); }

}  // namespace transformer
