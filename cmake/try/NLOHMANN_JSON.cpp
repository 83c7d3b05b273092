#include <nlohmann/json_fwd.hpp>
int main() { return sizeof(nlohmann::json*) == 0; }
