#include <CLI/Version.hpp>
int main() { return CLI11_VERSION_MAJOR < 0; }
