#include "transformer/train_on_host.hpp"

namespace transformer {

Outcome train_sgd(const Options& options, const Text& text) { return train_on_host<tessera::Sgd>(options, text); }

}  // namespace transformer
