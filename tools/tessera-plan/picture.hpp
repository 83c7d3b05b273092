// The answer as a picture: bytes a rank by stage, and seconds of a step against ranks.
#pragma once

#include <string>

#include "answer.hpp"

namespace plan {

/// A standalone SVG, readable on light and dark pages.
std::string picture(const Question& question, const Answer& answer);

}  // namespace plan
