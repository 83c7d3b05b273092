// The folder of a run's checkpoints: which ones are there, and how a new one becomes current.
//
//     FOLDER/checkpoints.json      the names of the checkpoints, newest first, and a checksum
//     FOLDER/step-00000042/        a checkpoint
//     FOLDER/partial/              one that is being written
//
// A checkpoint is written and synced in partial/. Then that folder is renamed, and checkpoints.json is replaced in one
// step. Until then the earlier checkpoints are as they were.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <tessera/checkpoint/file.hpp>
#include <tessera/checkpoint/manifest.hpp>
#include <tessera/checkpoint/slices.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera::checkpoint {

class Folder {
 public:
  /// Throws OptionError if the path is empty. Does not create the folder.
  explicit Folder(std::string path) : path_(std::move(path)) {
    if (path_.empty()) throw OptionError("checkpoints: the folder has no name");
  }

  const std::string& path() const noexcept { return path_; }
  std::string partial() const { return message({path_, "/partial"}); }
  std::string path_of(const std::string& name) const { return message({path_, "/", name}); }

  /// Throws CheckpointError unless `name` is that of a folder in this one.
  void require_name(const std::string& name) const {
    if (!name.empty() && name.find('/') == std::string::npos && name[0] != '.') return;
    throw CheckpointError(message({path_, ": '", name, "' is not the name of a checkpoint"}));
  }

  /// The names of the checkpoints, newest first. None if there is no list. Throws CheckpointError if it is damaged.
  std::vector<std::string> names() const {
    return reading(list(), [&]() -> std::vector<std::string> {
      if (!std::filesystem::exists(std::filesystem::symlink_status(list()))) return {};
      const auto names = read_json(list()).at("checkpoints").get<std::vector<std::string>>();
      for (const std::string& name : names) require_name(name);
      return names;
    });
  }

  /// Makes what is in partial/, the synced files of `world` ranks, the newest checkpoint, and removes all but `keep`.
  /// Returns its name. Throws CheckpointError.
  std::string commit(const Json& manifest, int world, index_t step, int keep) const {
    return reading(path_, [&] { return make_current(manifest, world, step, keep); });
  }

 private:
  std::string list() const { return message({path_, "/checkpoints.json"}); }

  std::string make_current(const Json& manifest, int world, index_t step, int keep) const {
    std::vector<std::string> all = names();
    const std::string text = with_checksum(manifest.dump(1));
    if (std::ssize(text) > most_manifest_bytes)
      throw CheckpointError(message({"the manifest would have ", text.size(), " bytes, more than the limit of 100 MB"}));
    write_file(message({partial(), "/manifest.json"}), text);
    remove_strangers(world);
    sync_folder(partial());
    const std::string name = unused_name(step);
    all.insert(all.begin(), name);
    const std::size_t kept = min(all.size(), static_cast<std::size_t>(keep));
    const std::vector<std::string> listed(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept));
    const std::string next = message({path_, "/checkpoints.next"});
    write_file(next, with_checksum(Json{{"checkpoints", listed}}.dump(1)));
    rename(partial(), path_of(name));
    sync_folder(path_);
    rename(next, list());
    sync_folder(path_);
    std::error_code ignored;  // what cannot be removed is not in the list any more
    for (std::size_t k = kept; k < all.size(); ++k) std::filesystem::remove_all(path_of(all[k]), ignored);
    return name;
  }

  // Removes from partial/ what an interrupted save on more ranks left there.
  void remove_strangers(int world) const {
    for (const auto& entry : std::filesystem::directory_iterator(partial())) {
      const std::string name = entry.path().filename().string();
      bool own = name == "manifest.json";
      for (int r = 0; r < world && !own; ++r) own = name == file_of_rank(r);
      if (!own) std::filesystem::remove_all(entry.path());
    }
  }

  // "step-00000042", or with ".1", ".2", ... if that exists.
  std::string unused_name(index_t step) const {
    const std::string base = message({"step-", padded(step, 8)});
    std::string name = base;
    for (int k = 1; std::filesystem::exists(std::filesystem::symlink_status(path_of(name))); ++k)
      name = message({base, ".", k});
    return name;
  }

  std::string path_;
};

}  // namespace tessera::checkpoint
