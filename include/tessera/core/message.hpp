// Builds messages from words and numbers.
#pragma once

#include <cstdio>
#include <initializer_list>
#include <string>
#include <string_view>

#include <tessera/core/math.hpp>

namespace tessera {

namespace core {

/// A word or a number of a message.
class MessagePart {
 public:
  constexpr MessagePart(const char* word) : word_(word) {}
  constexpr MessagePart(std::string_view word) : word_(word) {}
  MessagePart(const std::string& word) : word_(word) {}
  MessagePart(int number) : number_(std::to_string(number)), word_(number_) {}
  MessagePart(long number) : number_(std::to_string(number)), word_(number_) {}
  MessagePart(long long number) : number_(std::to_string(number)), word_(number_) {}
  MessagePart(unsigned long number) : number_(std::to_string(number)), word_(number_) {}
  MessagePart(double number) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.9g", number);
    number_ = digits;
    word_ = number_;
  }
  MessagePart(const MessagePart&) = delete;
  MessagePart& operator=(const MessagePart&) = delete;

  std::string_view word() const { return word_; }

 private:
  std::string number_;
  std::string_view word_;
};

}  // namespace core

/// Concatenates the parts. (A chain of std::string's operator+ takes ten times as long to compile.)
inline std::string message(std::initializer_list<core::MessagePart> parts) {
  std::string all;
  for (const core::MessagePart& part : parts) all += part.word();
  return all;
}

}  // namespace tessera
