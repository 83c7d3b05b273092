// The arrays of a checkpoint: each rank writes what it owns to one file, and a rank that loads reads the ranges that it
// holds from the files of all ranks, whatever their number and stage were.
//
//     rank-00000.safetensors   | header: names, types, slices, a checksum per block | slice | slice | ...
//
// A slice has consecutive elements of one tensor in one array. Reading verifies the checksum of each block that it
// touches.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <tessera/checkpoint/checksum.hpp>
#include <tessera/checkpoint/file.hpp>
#include <tessera/checkpoint/safetensors.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera::checkpoint {

/// Bytes of data per checksum.
inline constexpr index_t block_bytes = index_t{1} << 20;

/// "rank-00003.safetensors"
inline std::string file_of_rank(int rank) {
  return message({"rank-", padded(rank, 5), ".safetensors"});
}

/// The name of an entry: "a.w", "exp_avg.a.w", or, for a part of the tensor, "exp_avg.a.w[128:256]".
inline std::string entry_name(std::string_view array, std::string_view tensor, index_t first, index_t count,
                              index_t elements) {
  const std::string range = count == elements ? std::string() : message({"[", first, ":", first + count, "]"});
  return array == "parameter" ? message({tensor, range}) : message({array, ".", tensor, range});
}

/// What a rank writes: collects the slices first, then writes the header, then the data.
class SliceWriter {
 public:
  explicit SliceWriter(const Layout& layout) : layout_(&layout) {}

  /// Adds a slice of `count` elements of type T.
  template <class T>
  void add(std::string_view array, Tensor tensor, index_t first, index_t count) {
    const index_t elements = layout_->elements(tensor);
    std::string name = entry_name(array, layout_->name(tensor), first, count, elements);
    while (!names_.insert(name).second) name += '~';  // names with dots can repeat
    std::vector<index_t> shape{count};
    if (count == elements) {
      const auto whole = layout_->shape(tensor);
      shape.assign(whole.begin(), whole.end());
    }
    const index_t end = bytes_ + count * static_cast<index_t>(sizeof(T));
    header_.entries.push_back({std::move(name), std::string(data_type<T>()), std::move(shape), bytes_, end});
    slices_ += message({array, " ", tensor.index, " ", first, "\n"});
    bytes_ = end;
  }

  /// Creates the file, with space for the header.
  void begin(const std::string& path) {
    header_.metadata = {{"tessera", "1"}, {"block_bytes", std::to_string(block_bytes)}, {"slices", slices_}};
    header_.metadata["checksums"] = std::string(to_size(ceil_div(bytes_, block_bytes) * 16), '0');
    const std::string text = header_.text(path);
    path_ = path;
    file_ = std::make_unique<FileWriter>(path);
    file_->write(std::as_bytes(std::span(text)));
  }

  /// Appends the data of the next slice, or of a part of it.
  void write(std::span<const std::byte> data) {
    checksums_.add(data);
    file_->write(data);
  }

  /// Writes the checksums into the header and syncs the file. Returns the checksum of the header.
  std::uint64_t end() {
    header_.metadata["checksums"] = checksums_.text();
    const std::string text = header_.text(path_);
    file_->write_at(0, std::as_bytes(std::span(text)));
    file_->sync_and_close();
    return checksum(std::string_view(text).substr(8));
  }

 private:
  const Layout* layout_;
  Header header_;
  std::string path_;
  std::string slices_;
  std::unordered_set<std::string> names_;
  index_t bytes_ = 0;  // of data
  std::unique_ptr<FileWriter> file_;
  BlockChecksums checksums_{block_bytes};
};

/// What is known of one rank's file without reading its data. The file is not open.
struct FileOfRank {
  std::string path;
  Header header;
  index_t data_begin = 0;
  index_t data_bytes = 0;

  /// header_sum: the checksum of the header, from the manifest.
  FileOfRank(const std::string& file, std::uint64_t header_sum) : path(file) {
    OpenFile open(path);
    if (checksum(open.header_text) != header_sum)
      throw CheckpointError(message({path, ": is damaged: the checksum of its header is not that of the manifest"}));
    header = std::move(open.header);
    data_begin = open.data_begin;
    data_bytes = open.file.bytes() - data_begin;
    if (!header.metadata.contains("slices") || !header.metadata.contains("checksums") ||
        std::ssize(header.metadata.at("checksums")) != 16 * ceil_div(data_bytes, block_bytes))
      throw CheckpointError(message({path, ": lacks slices or checksums in its metadata"}));
  }
};

/// Reads data by offset, verified block by block. Has one file open, and one block of it in memory.
class VerifiedReader {
 public:
  /// Reads to.size() bytes of data from `offset` on. Throws CheckpointError if a block is damaged.
  void read(const FileOfRank& file, index_t offset, std::span<std::byte> to) {
    while (!to.empty()) {
      load(file, offset / block_bytes);
      const index_t within = offset % block_bytes;
      const index_t n = min(std::ssize(to), std::ssize(data_) - within);
      std::memcpy(to.data(), data_.data() + within, to_size(n));
      to = to.subspan(to_size(n));
      offset += n;
    }
  }

 private:
  void load(const FileOfRank& file, index_t block) {
    if (&file != file_) open_ = std::make_unique<FileReader>(file.path);
    else if (block == block_) return;
    file_ = &file;
    block_ = -1;
    const index_t begin = block * block_bytes;
    data_.resize(to_size(min(block_bytes, file.data_bytes - begin)));
    open_->read(file.data_begin + begin, data_);
    const std::string_view sums = file.header.metadata.at("checksums");
    if (sums.substr(to_size(16 * block), 16) != hex(checksum(std::span<const std::byte>(data_))))
      throw CheckpointError(message({file.path, ": is damaged: bytes ", file.data_begin + begin, " to ",
                                     file.data_begin + begin + std::ssize(data_), " do not have their checksum (",
                                     tensor_at(file, begin), ")"}));
    block_ = block;
  }

  // The first tensor with data in the block that begins at `begin`.
  static std::string tensor_at(const FileOfRank& file, index_t begin) {
    for (const Entry& entry : file.header.entries)
      if (entry.end > begin) return message({"from '", entry.name, "' on"});
    return "no tensor";
  }

  const FileOfRank* file_ = nullptr;
  index_t block_ = -1;
  std::unique_ptr<FileReader> open_;
  std::vector<std::byte> data_;
};

/// All slices of a checkpoint, by array and tensor.
class SavedSlices {
 public:
  /// sums: the checksums of the headers of all ranks' files in `folder`. tensors: the names that slices refer to by
  /// number. Throws CheckpointError.
  SavedSlices(const std::string& folder, const std::vector<std::uint64_t>& sums,
              const std::vector<std::string>& tensors) {
    for (std::size_t rank = 0; rank < sums.size(); ++rank) {
      files_.push_back(
          std::make_unique<FileOfRank>(message({folder, "/", file_of_rank(static_cast<int>(rank))}), sums[rank]));
      add(rank, tensors);
    }
    for (auto& [key, slices] : slices_)
      std::sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) { return a.first < b.first; });
  }

  /// Throws CheckpointError unless the slices of the array's tensor have this type and are all of it, once.
  void require_whole(const std::string& array, const std::string& tensor, std::string_view type, index_t elements) const {
    index_t next = 0;
    const auto found = slices_.find({array, tensor});
    if (found != slices_.end())
      for (const Slice& slice : found->second) {
        if (slice.type != type)
          throw CheckpointError(message({"'", array, "' of tensor '", tensor, "' has type ", slice.type,
                                         " in the checkpoint, and ", type, " in the optimizer"}));
        if (slice.first != next) break;
        next += slice.count;
      }
    if (next != elements || (found != slices_.end() && found->second.back().first + found->second.back().count != next))
      throw CheckpointError(message({"elements from ", next, " on of '", array, "' of tensor '", tensor,
                                     "' are missing or there more than once"}));
  }

  /// Reads elements [first, first + to.size()) of the array's tensor, which must be there.
  template <class T>
  void read(const std::string& array, const std::string& tensor, index_t first, std::span<T> to) {
    const std::vector<Slice>& slices = slices_.at({array, tensor});
    const auto ends_after = [first](const Slice& slice) { return slice.first + slice.count <= first; };
    for (auto slice = std::partition_point(slices.begin(), slices.end(), ends_after); !to.empty(); ++slice) {
      const index_t skipped = first - slice->first;
      const index_t n = min(std::ssize(to), slice->count - skipped);
      reader_.read(*files_[slice->file], slice->begin + skipped * static_cast<index_t>(sizeof(T)),
                   std::as_writable_bytes(to.first(to_size(n))));
      to = to.subspan(to_size(n));
      first += n;
    }
  }

 private:
  struct Slice {
    index_t first;
    index_t count;
    std::size_t file;
    index_t begin;  // of its data
    std::string type;
  };

  // Lines "array tensor first" of the metadata, one for each entry in the order of data.
  void add(std::size_t rank, const std::vector<std::string>& tensors) {
    const Header& header = files_[rank]->header;
    std::string_view lines = header.metadata.at("slices");
    const auto refuse = [&] {
      throw CheckpointError(message({files_[rank]->path, ": its metadata does not describe its slices"}));
    };
    const auto word = [&](char end) {
      const std::size_t n = lines.find(end);
      if (n == std::string_view::npos) refuse();
      const std::string_view found = lines.substr(0, n);
      lines.remove_prefix(n + 1);
      return found;
    };
    const auto number = [&](std::string_view text) {
      index_t value = 0;
      if (text.empty() || text.size() > 18) refuse();
      for (const char digit : text) {
        if (digit < '0' || digit > '9') refuse();
        value = 10 * value + (digit - '0');
      }
      return value;
    };
    for (const Entry& entry : header.entries) {
      const std::string array(word(' '));
      const index_t tensor = number(word(' ')), first = number(word('\n'));
      if (tensor >= std::ssize(tensors)) refuse();
      const index_t count = (entry.end - entry.begin) / *bytes_of_type(entry.dtype);
      slices_[{array, tensors[to_size(tensor)]}].push_back({first, count, rank, entry.begin, entry.dtype});
    }
    if (!lines.empty()) refuse();
  }

  std::vector<std::unique_ptr<FileOfRank>> files_;
  VerifiedReader reader_;
  std::map<std::pair<std::string, std::string>, std::vector<Slice>> slices_;
};

}  // namespace tessera::checkpoint
