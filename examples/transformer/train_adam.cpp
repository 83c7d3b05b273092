#include "transformer/train_on_host.hpp"

namespace transformer {

Outcome train_adam(const Options& options, const Text& text) { return train_on_host<tessera::Adam>(options, text); }

}  // namespace transformer
