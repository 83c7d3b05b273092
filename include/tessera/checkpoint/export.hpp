// Parameters as safetensors files of whole tensors, as Hugging Face has them: one file, or several with an index above a
// size. Every rank writes what it owns at its place in the files, so nothing is gathered.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <tessera/checkpoint/manifest.hpp>
#include <tessera/checkpoint/ranks.hpp>
#include <tessera/checkpoint/safetensors.hpp>
#include <tessera/sharded.hpp>

namespace tessera {

/// The name in a file of the layout's tensor `name`, "unit.tensor".
using Rename = std::function<std::string(const std::string& name)>;

struct ExportOptions {
  Rename rename{};                         ///< by default, names are those of the layout
  index_t file_bytes = index_t{5} << 30;  ///< of data per file; a larger tensor has a file of its own
  std::chrono::nanoseconds timeout = std::chrono::minutes(30);  ///< for ranks that write longer than this one
};

namespace checkpoint {

/// One file of an export, and the offset of each tensor's data in it.
struct ExportedFile {
  std::string name;
  Header header;
  std::vector<int> tensors;  // in the order of the header's entries
};

/// The files of an export of parameters of type `type`, without memory. Throws CheckpointError if two tensors get one
/// name.
inline std::vector<ExportedFile> plan_export(const Layout& layout, std::string_view type, const std::string& path,
                                             const ExportOptions& options) {
  std::vector<ExportedFile> files(1);
  std::set<std::string> names;
  const index_t element = *bytes_of_type(type);
  for (const Tensor t : layout.tensors()) {
    const index_t bytes = layout.elements(t) * element;
    Header* header = &files.back().header;
    index_t begin = header->entries.empty() ? 0 : header->entries.back().end;
    if (begin > 0 && begin + bytes > options.file_bytes) {
      header = &files.emplace_back().header;
      begin = 0;
    }
    const std::string name = options.rename ? options.rename(layout.name(t)) : layout.name(t);
    if (name == "__metadata__" || !names.insert(name).second)
      throw CheckpointError(message({path, ": tensor '", layout.name(t), "' would get the name '", name,
                                     "', which another one has"}));
    const auto shape = layout.shape(t);
    header->entries.push_back({name, std::string(type), {shape.begin(), shape.end()}, begin, begin + bytes});
    files.back().tensors.push_back(t.index);
  }
  const std::filesystem::path whole(path);
  if (whole.filename().empty() || whole.extension() == ".json")
    throw CheckpointError(message({path, ": is not the name of a safetensors file"}));
  for (std::size_t k = 0; k < files.size(); ++k) {
    files[k].header.metadata["format"] = "pt";
    files[k].name = files.size() == 1 ? whole.filename().string()
                                      : message({whole.stem().string(), "-", padded(static_cast<index_t>(k) + 1, 5), "-of-",
                                                 padded(std::ssize(files), 5), whole.extension().string()});
  }
  return files;
}

/// {"metadata": {"total_size": bytes}, "weight_map": {"tensor": "file", ...}}
inline std::string index_of(const std::vector<ExportedFile>& files) {
  nlohmann::json map = nlohmann::json::object();
  index_t bytes = 0;
  for (const ExportedFile& file : files)
    for (const Entry& entry : file.header.entries) {
      map[entry.name] = file.name;
      bytes += entry.end - entry.begin;
    }
  return nlohmann::json{{"metadata", {{"total_size", bytes}}}, {"weight_map", map}}.dump(2) + "\n";
}

}  // namespace checkpoint

/// Writes all parameters, whole tensors in the order of the layout, to `path` (model.safetensors), or to
/// model-00001-of-00003.safetensors, ... and model.safetensors.index.json. During an evaluation these are the evaluation
/// weights. All ranks make the same call, between steps, with a path that all of them share. Files get their names when
/// they are complete and on the device. Throws CheckpointError, on the rank where it occurs, and PeerError on others.
/// Blocks until all ranks have called it.
template <class Rule, class Stage, class Precision, class Comm>
void export_parameters(Comm& comm, Sharded<Rule, Stage, Precision, Comm>& optimizer, const std::string& path,
                       const ExportOptions& options = {}) {
  using Parameter = typename Precision::Parameter;
  using namespace checkpoint;
  RanksOf<Comm> ranks(comm, options.timeout);
  const Layout& layout = optimizer.layout();
  const std::string folder = std::filesystem::path(path).parent_path().string();
  std::vector<ExportedFile> files;
  struct Place {
    std::size_t file = 0;
    index_t offset = 0;
  };
  std::vector<Place> places(to_size(layout.tensors().size()));  // by tensor
  const auto partial = [&](const std::string& name) { return message({folder, folder.empty() ? "" : "/", name, ".partial"}); };
  const auto begun = caught([&] {
    files = plan_export(layout, data_type<Parameter>(), path, options);
    for (std::size_t k = 0; k < files.size(); ++k) {
      const std::string text = files[k].header.text(path);
      for (std::size_t e = 0; e < files[k].tensors.size(); ++e)
        places[to_size(files[k].tensors[e])] = {k, std::ssize(text) + files[k].header.entries[e].begin};
      if (ranks.rank() != 0) continue;
      FileWriter file(partial(files[k].name));
      file.write(std::as_bytes(std::span(text)));
      file.sync_and_close();
    }
  });
  ranks.require_all(begun, 0, path, "could not begin the file");
  const auto written = caught([&] {
    std::vector<std::unique_ptr<FileWriter>> open(files.size());
    for (std::size_t k = 0; k < files.size(); ++k)
      open[k] = std::make_unique<FileWriter>(partial(files[k].name), FileWriter::Existing{});
    optimizer.for_each_owned_slice([&]<class T>(const TensorSlice<const T>& slice) {
      if (std::string_view(slice.array) != "parameter") return;
      const Place place = places[to_size(slice.tensor.index)];
      for_each_chunk(ranks.executor(), slice.elements, [&](index_t first, std::span<const std::byte> bytes) {
        open[place.file]->write_at(place.offset + (slice.first + first) * static_cast<index_t>(sizeof(T)), bytes);
      });
    });
    for (auto& file : open) file->sync_and_close();
  });
  ranks.require_all(written, 0, path, "could not write its part");
  const auto name_files = [&] {
    const std::string above = folder.empty() ? "." : folder, index = path + ".index.json";
    for (const ExportedFile& file : files) {
      const std::string from = partial(file.name);
      rename(from, from.substr(0, from.size() - std::string_view(".partial").size()));
    }
    sync_folder(above);
    if (files.size() > 1) {
      write_file(index + ".partial", index_of(files));
      rename(index + ".partial", index);
    }
    std::filesystem::remove(files.size() > 1 ? path : index);  // of an earlier export, which a reader might prefer
    sync_folder(above);
  };
  const auto unnamed = caught([&] {
    if (ranks.rank() == 0) reading(path, name_files);
  });
  ranks.require_all(unnamed, 0, path, "could not name the file");
}

}  // namespace tessera
