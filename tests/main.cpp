// The main function of all doctest executables.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "memory_limit.hpp"

int main(int argc, char** argv) {
  tessera::limit_memory();
  return doctest::Context(argc, argv).run();
}
