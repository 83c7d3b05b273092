#include "transformer/train.hpp"

namespace transformer {

Outcome train_adamw(const Options& options, const Text& text) { return train<tessera::AdamW>(options, text); }

}  // namespace transformer
