// expect: must see gradients that are not finite, which -ffinite-math-only hides
// flags: -ffinite-math-only
#include <tessera/core/config.hpp>
