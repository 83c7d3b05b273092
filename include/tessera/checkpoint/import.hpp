// Parameters from safetensors files of whole tensors, written by this library, by PyTorch or by others.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/checkpoint/export.hpp>
#include <tessera/checkpoint/manifest.hpp>
#include <tessera/checkpoint/ranks.hpp>
#include <tessera/checkpoint/safetensors.hpp>
#include <tessera/sharded.hpp>

namespace tessera {

struct ImportOptions {
  Rename rename{};  ///< by default, names are those of the layout
  std::chrono::nanoseconds timeout = std::chrono::minutes(30);
};

namespace checkpoint {

/// The weights of all tensors of a layout, as floats, read from files block by block.
class ImportedWeights {
 public:
  /// path: a safetensors file, or an index (.json) of several in its folder. Throws CheckpointError unless there is each
  /// tensor of the layout, with its shape, as F32, BF16 or F16. Tensors that the layout does not have are not read.
  ImportedWeights(const Layout& layout, const std::string& path, const Rename& rename) {
    std::map<std::string, std::pair<std::size_t, const Entry*>> found;
    open(path);
    for (std::size_t k = 0; k < files_.size(); ++k)
      for (const Entry& entry : files_[k]->header.entries)
        if (!found.emplace(entry.name, std::pair{k, &entry}).second)
          throw CheckpointError(message({path, ": two files have a tensor '", entry.name, "'"}));
    for (const Tensor t : layout.tensors()) {
      const std::string name = rename ? rename(layout.name(t)) : layout.name(t);
      const auto at = found.find(name);
      if (at == found.end())
        throw CheckpointError(message({path, ": there is no tensor '", name, "', from which '", layout.name(t),
                                       "' would be read"}));
      const auto& [file, entry] = at->second;
      const auto shape = layout.shape(t);
      if (!std::equal(shape.begin(), shape.end(), entry->shape.begin(), entry->shape.end()))
        throw CheckpointError(message({files_[file]->file.path(), ": tensor '", name, "' has shape ",
                                       nlohmann::json(entry->shape).dump(), ", and '", layout.name(t), "' ",
                                       nlohmann::json(std::vector<index_t>(shape.begin(), shape.end())).dump()}));
      if (entry->dtype != "F32" && entry->dtype != "BF16" && entry->dtype != "F16")
        throw CheckpointError(message({files_[file]->file.path(), ": tensor '", name, "' has type ", entry->dtype,
                                       ", and F32, BF16 or F16 can be read"}));
      sources_.push_back({files_[file].get(), files_[file]->data_begin + entry->begin, layout.elements(t),
                          entry->dtype});
    }
  }

  /// Element i of tensor t. Throws CheckpointError if the file cannot be read.
  float operator()(Tensor t, index_t i) {
    if (t.index != tensor_ || i < first_ || i >= first_ + std::ssize(block_)) read(t, i);
    return block_[to_size(i - first_)];
  }

 private:
  static constexpr index_t block_elements = index_t{1} << 18;

  struct Source {
    const OpenFile* file;
    index_t offset;  // of element 0 in the file
    index_t elements;
    std::string type;
  };

  void open(const std::string& path) {
    if (!path.ends_with(".json")) {
      files_.push_back(std::make_unique<OpenFile>(path));
      return;
    }
    const std::string text = read_file(path, Header::most_bytes);
    reading(path, [&] {
      std::set<std::string> names;
      const auto index = nlohmann::json::parse(text);
      for (const auto& [tensor, file] : index.at("weight_map").items())
        names.insert(file.get<std::string>());
      for (const std::string& name : names) {
        if (name.empty() || name.find('/') != std::string::npos || name[0] == '.')
          throw CheckpointError(message({"'", name, "' is not the name of a file in its folder"}));
        files_.push_back(
            std::make_unique<OpenFile>((std::filesystem::path(path).parent_path() / name).string()));
      }
    });
  }

  void read(Tensor t, index_t i) {
    const Source& source = sources_[to_size(t.index)];
    const index_t n = min(block_elements, source.elements - i);
    block_.clear();
    if (source.type == "F32") read<float>(source, i, n);
    else if (source.type == "BF16") read<bfloat16>(source, i, n);
    else read<float16>(source, i, n);
    tensor_ = t.index;
    first_ = i;
  }

  template <class T>
  void read(const Source& source, index_t i, index_t n) {
    std::vector<T> values(to_size(n));
    source.file->file.read(source.offset + i * static_cast<index_t>(sizeof(T)),
                           std::as_writable_bytes(std::span(values)));
    for (const T value : values) block_.push_back(static_cast<float>(value));
  }

  std::vector<std::unique_ptr<OpenFile>> files_;
  std::vector<Source> sources_;  // by tensor
  std::vector<float> block_;     // elements of tensor_ from first_ on
  int tensor_ = -1;
  index_t first_ = 0;
};

}  // namespace checkpoint

/// Sets the weights from `path`: a safetensors file, or the index (.json) of several. Like initialize(): master weights
/// get the values of the file, parameters are rounded from them, and state and step count do not change. All ranks make
/// the same call, between steps. Throws CheckpointError before anything changes if a tensor is missing or does not fit;
/// other ranks throw PeerError. If a file cannot be read in the middle, the weights are not those of the file, and all
/// ranks throw: import again. Blocks until all ranks have called it.
template <class Rule, class Stage, class Precision, class Comm>
void import_parameters(Comm& comm, Sharded<Rule, Stage, Precision, Comm>& optimizer, const std::string& path,
                       const ImportOptions& options = {}) {
  using namespace checkpoint;
  RanksOf<Comm> ranks(comm, options.timeout);
  std::unique_ptr<ImportedWeights> weights;
  const auto unfit = caught([&] {
    weights = std::make_unique<ImportedWeights>(optimizer.layout(), path, options.rename);
  });
  ranks.require_all(unfit, 0, path, "could not use the file");
  std::exception_ptr unread;
  std::exception_ptr differ;  // because a rank could not read
  try {
    optimizer.initialize([&](Tensor t, index_t i) {
      float weight = 0;
      if (!unread) unread = caught([&] { weight = (*weights)(t, i); });
      return weight;
    });
  } catch (const AgreementError&) {
    differ = std::current_exception();
  }
  ranks.require_all(unread, 0, path, "could not read the file");
  if (differ) std::rethrow_exception(differ);
}

}  // namespace tessera
