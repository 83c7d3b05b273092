#include <cblas.h>
int main() {
  const float x = 1;
  return cblas_sdot(1, &x, 1, &x, 1) == 1 ? 0 : 1;
}
