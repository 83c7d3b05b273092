// expect-success
#include <tessera/core/config.hpp>

int main() { return tessera::version > 0 ? 0 : 1; }
