// expect: promises the same bits .* which -ffast-math breaks
// flags: -ffast-math
#include <tessera/core/config.hpp>
