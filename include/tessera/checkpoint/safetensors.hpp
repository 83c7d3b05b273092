// The header of a safetensors file (github.com/huggingface/safetensors): names, types, shapes and offsets of tensors.
//
//     | 8 bytes: n, little-endian | n bytes: JSON | data, back to back |
//     {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
//
// Reading refuses everything else with the file's name and the reason. It allocates in proportion to the header, which
// has at most 100 MB and is inside the file.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include <tessera/checkpoint/file.hpp>
#include <tessera/core/bfloat16.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera::checkpoint {

/// Calls read(), and turns what nlohmann::json throws into a CheckpointError. Its message begins with `path`.
template <class Read>
auto reading(const std::string& path, const Read& read) {
  try {
    return read();
  } catch (const nlohmann::json::exception& error) {
    throw CheckpointError(message({path, ": does not have the format: ", error.what()}));
  } catch (const std::filesystem::filesystem_error& error) {
    throw CheckpointError(message({path, ": ", error.what()}));
  } catch (const CheckpointError& error) {
    if (std::string_view(error.what()).starts_with(path)) throw;
    throw CheckpointError(message({path, ": ", error.what()}));
  }
}

struct DataType {
  std::string_view name;
  index_t bytes;
};

/// The types of the format, in bytes per element.
inline constexpr std::array<DataType, 15> data_types{{{"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1},
                                                      {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2}, {"I32", 4},
                                                      {"U32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U64", 8}}};

/// The name of an element type in the format.
template <class T>
constexpr std::string_view data_type() {
  if constexpr (std::is_same_v<T, float>) return "F32";
  else if constexpr (std::is_same_v<T, double>) return "F64";
  else if constexpr (std::is_same_v<T, bfloat16>) return "BF16";
  else if constexpr (std::is_same_v<T, float16>) return "F16";
  else if constexpr (std::is_same_v<T, std::uint16_t>) return "U16";
  else if constexpr (sizeof(T) == 1) return "U8";  // a type of the user's, as its bits
  else if constexpr (sizeof(T) == 2) return "U16";
  else if constexpr (sizeof(T) == 4) return "U32";
  else return "U64";
}

/// One tensor. begin, end: its bytes, counted from the first byte after the header.
struct Entry {
  std::string name;
  std::string dtype;
  std::vector<index_t> shape;
  index_t begin = 0;
  index_t end = 0;

  bool operator==(const Entry&) const = default;
};

struct Header {
  std::vector<Entry> entries;  ///< in the order of their data
  std::map<std::string, std::string> metadata;

  static constexpr index_t most_bytes = 100'000'000;

  /// The bytes before the data: length and JSON, padded with spaces to a multiple of 8. Throws CheckpointError if they
  /// are more than a reader accepts, or if a name is not UTF-8.
  std::string text(const std::string& path) const {
    return reading(path, [&] { return text(); });
  }

 private:
  std::string text() const {
    const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
    std::string body = "{";
    if (!metadata.empty()) body += message({"\"__metadata__\":", nlohmann::json(metadata).dump(), ","});
    for (const Entry& entry : entries)
      body += message({quoted(entry.name), ":{\"dtype\":", quoted(entry.dtype), ",\"shape\":",
                       nlohmann::json(entry.shape).dump(), ",\"data_offsets\":[", entry.begin, ",", entry.end, "]},"});
    if (body.back() == ',') body.pop_back();
    body += '}';
    body.resize(to_size(round_up(std::ssize(body), index_t{8})), ' ');
    if (std::ssize(body) > most_bytes)
      throw CheckpointError(message({"the header would have ", body.size(), " bytes, more than the limit of 100 MB"}));
    std::string all(8, '\0');
    for (int i = 0; i < 8; ++i) all[to_size(i)] = static_cast<char>(static_cast<std::uint64_t>(body.size()) >> 8 * i);
    return all + body;
  }
};

/// Builds a Header from the events of a JSON parser, and refuses what the format does not have.
class HeaderBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Header header;
  std::string problem;

  bool key(string_t& name) override {
    if (depth_ == 1) {
      in_metadata_ = name == "__metadata__";
      if (!names_.insert(name).second) return refuse(message({"has two tensors named '", name, "'"}));
      if (in_metadata_) return true;
      header.entries.push_back({name, {}, {}, 0, 0});
      seen_ = 0;
      return true;
    }
    key_ = name;
    if (in_metadata_) {
      if (!header.metadata.emplace(name, "").second) return refuse(message({"has '", name, "' twice in its metadata"}));
      return true;
    }
    const int field = name == "dtype" ? 1 : name == "shape" ? 2 : name == "data_offsets" ? 4 : 0;
    if (field == 0 || (seen_ & field)) return refuse_entry(message({"has an unknown or repeated field '", name, "'"}));
    seen_ |= field;
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 2 || in_array_ || (depth_ == 1 && names_.empty())) return refuse("is nested too deeply");
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    if (depth_ == 1 && !in_metadata_) {
      if (seen_ != 7) return refuse_entry("lacks dtype, shape or data_offsets");
      if (offsets_ != 2) return refuse_entry("needs two data_offsets");
      offsets_ = 0;
    }
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || in_array_ || key_ == "dtype") return refuse("has a list where none belongs");
    in_array_ = true;
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ == 2 && in_metadata_) header.metadata[key_] = text;
    else if (depth_ == 2 && !in_array_ && key_ == "dtype") header.entries.back().dtype = text;
    else return refuse("has a text where none belongs");
    return true;
  }
  bool number_unsigned(number_unsigned_t number) override {
    constexpr number_unsigned_t most = number_unsigned_t{1} << 62;
    if (!in_array_ || number > most) return refuse("has a number where none belongs, or that is too large");
    const auto value = static_cast<index_t>(number);
    if (key_ == "shape") header.entries.back().shape.push_back(value);
    else if (offsets_ == 0) header.entries.back().begin = value, offsets_ = 1;
    else if (offsets_ == 1) header.entries.back().end = value, offsets_ = 2;
    else return refuse_entry("needs two data_offsets");
    return true;
  }
  bool null() override { return refuse("has a null"); }
  bool boolean(bool) override { return refuse("has a boolean"); }
  bool number_integer(number_integer_t) override { return refuse("has a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("has a number that is no integer"); }
  bool binary(binary_t&) override { return refuse("has binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return refuse(message({"is not JSON at byte ", position}));
  }

 private:
  bool refuse(std::string why) {
    if (problem.empty()) problem = "the header " + std::move(why);
    return false;
  }
  bool refuse_entry(const std::string& why) {
    return refuse(message({"says of tensor '", header.entries.back().name, "' what it must not: it ", why}));
  }

  std::unordered_set<std::string> names_;
  std::string key_;
  int depth_ = 0;
  int seen_ = 0;     // fields of the entry: 1 dtype, 2 shape, 4 data_offsets
  int offsets_ = 0;  // numbers of data_offsets
  bool in_metadata_ = false;
  bool in_array_ = false;
};

/// The bytes of an element type, or nothing for a name that the format does not have.
inline std::optional<index_t> bytes_of_type(std::string_view name) {
  for (const DataType& type : data_types)
    if (type.name == name) return type.bytes;
  return {};
}

/// elements times bytes, or nothing if that is more than `most`.
inline std::optional<index_t> bytes_of_shape(std::span<const index_t> shape, index_t element_bytes, index_t most) {
  index_t bytes = element_bytes;
  for (const index_t size : shape)
    if (size == 0) return 0;
  for (const index_t size : shape) {
    if (size > most / bytes) return {};
    bytes *= size;
  }
  return bytes;
}

/// The header in `text`, which is all of it without the length, of a file with `data_bytes` after the header. Sorts the
/// entries by their data. Throws CheckpointError.
inline Header parse_header(const std::string& path, std::string_view text, index_t data_bytes) {
  const auto refuse = [&](const std::string& why) { throw CheckpointError(message({path, ": ", why})); };
  HeaderBuilder builder;
  if (!text.starts_with('{')) refuse("the header does not begin with '{'");
  if (!nlohmann::json::sax_parse(text, &builder)) refuse(builder.problem);
  Header header = std::move(builder.header);
  std::stable_sort(header.entries.begin(), header.entries.end(),
                   [](const Entry& a, const Entry& b) { return a.begin < b.begin || (a.begin == b.begin && a.end < b.end); });
  index_t next = 0;
  for (const Entry& entry : header.entries) {
    const auto element = bytes_of_type(entry.dtype);
    if (!element) refuse(message({"tensor '", entry.name, "' has the unknown type '", entry.dtype, "'"}));
    if (entry.begin != next || entry.end < entry.begin || entry.end > data_bytes)
      refuse(message({"tensor '", entry.name, "' is at bytes ", entry.begin, " to ", entry.end,
                      " of the data; the tensors must follow each other from byte ", next, " and end by ", data_bytes}));
    if (bytes_of_shape(entry.shape, *element, data_bytes) != entry.end - entry.begin)
      refuse(message({"tensor '", entry.name, "' has ", entry.end - entry.begin,
                      " bytes, which are not those of its shape and type"}));
    next = entry.end;
  }
  if (next != data_bytes)
    refuse(message({"the tensors end at byte ", next, " of the data, the file at ", data_bytes}));
  return header;
}

/// A safetensors file that is read. data_begin: the offset of the data in the file.
struct OpenFile {
  FileReader file;
  Header header;
  std::string header_text;  ///< without the length
  index_t data_begin;

  explicit OpenFile(const std::string& path) : file(path) {
    std::array<std::byte, 8> length{};
    if (file.bytes() < 8) throw CheckpointError(message({path, ": has ", file.bytes(), " bytes, which is no header"}));
    file.read(0, length);
    std::uint64_t n = 0;
    for (std::size_t i = 0; i < 8; ++i) n |= std::to_integer<std::uint64_t>(length[i]) << 8 * i;
    if (n > static_cast<std::uint64_t>(min(Header::most_bytes, file.bytes() - 8)))
      throw CheckpointError(message({path, ": the header would have ", static_cast<unsigned long>(n),
                                     " bytes, more than the file or the limit of 100 MB"}));
    header_text.resize(n);
    file.read(8, std::as_writable_bytes(std::span(header_text)));
    data_begin = 8 + static_cast<index_t>(n);
    header = parse_header(path, header_text, file.bytes() - data_begin);
  }
};

}  // namespace tessera::checkpoint
