#include "transformer/train_on_host.hpp"

namespace transformer {

Outcome train_adamw(const Options& options, const Text& text) { return train_on_host<tessera::AdamW>(options, text); }

}  // namespace transformer
