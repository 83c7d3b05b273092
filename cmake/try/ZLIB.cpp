#include <zlib.h>
int main() { return zlibVersion() == nullptr; }
