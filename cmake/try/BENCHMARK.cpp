#include <benchmark/benchmark.h>
int main() { benchmark::Shutdown(); }
