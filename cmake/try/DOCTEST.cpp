#define DOCTEST_CONFIG_DISABLE
#include <doctest/doctest.h>
int main() {}
