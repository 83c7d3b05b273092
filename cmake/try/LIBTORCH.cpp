#include <c10/core/DeviceType.h>
int main() { return static_cast<int>(c10::DeviceType::CPU); }
