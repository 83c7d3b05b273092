// Samples of a measurement, and their statistics.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

/// The q-quantile of the values: 0.5 is the median.
inline double quantile(std::vector<double> values, double q) {
  const auto at = static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

inline double median(const std::vector<double>& values) { return quantile(values, 0.5); }

/// "median (first quartile to third)" of the values times `scale`.
inline std::string with_spread(const std::vector<double>& values, double scale, int digits) {
  char text[120];
  std::snprintf(text, sizeof text, "%.*f (%.*f to %.*f)", digits, median(values) * scale, digits,
                quantile(values, 0.25) * scale, digits, quantile(values, 0.75) * scale);
  return text;
}
