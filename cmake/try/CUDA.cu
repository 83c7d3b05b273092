#include <cuda_runtime.h>
__global__ void nothing() {}
int main() { nothing<<<1, 1>>>(); }
static_assert(__cplusplus >= 202002L);
