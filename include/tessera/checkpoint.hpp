// Entry header of checkpoints: save a run and resume it at another stage or world size. Needs nlohmann/json.hpp and
// xxhash.h, which no other header of the library does.
#pragma once

#include <tessera/checkpoint/checkpoints.hpp>
#include <tessera/checkpoint/export.hpp>
#include <tessera/checkpoint/import.hpp>
