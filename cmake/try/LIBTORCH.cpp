#include <c10/core/Device.h>
int main() { return c10::Device("cpu").is_cpu() ? 0 : 1; }
