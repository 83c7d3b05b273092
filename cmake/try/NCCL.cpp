#include <nccl.h>
int main() {
  ncclUniqueId id;
  return ncclGetUniqueId(&id);
}
