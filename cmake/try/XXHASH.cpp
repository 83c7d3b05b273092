#define XXH_INLINE_ALL
#include <xxhash.h>
int main() { return XXH3_64bits("", 0) == 0; }
