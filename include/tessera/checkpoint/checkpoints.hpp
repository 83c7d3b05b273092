// The checkpoints of a run in one folder: save at any stage and world size, load at any other.
//
//     FOLDER/step-00000042/manifest.json              what the checkpoint says of itself (checkpoint/manifest.hpp)
//     FOLDER/step-00000042/rank-00000.safetensors     what each rank owned              (checkpoint/slices.hpp)
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/checkpoint/folder.hpp>
#include <tessera/checkpoint/manifest.hpp>
#include <tessera/checkpoint/ranks.hpp>
#include <tessera/checkpoint/slices.hpp>
#include <tessera/comm/communicator.hpp>
#include <tessera/sharded.hpp>

namespace tessera {

struct CheckpointOptions {
  int keep = 2;  ///< checkpoints that stay in the folder, at least 1; a save removes older ones
  std::chrono::nanoseconds timeout = std::chrono::minutes(30);  ///< for ranks that write longer than this one
};

/// Saves and loads the state of one optimizer. All ranks construct it with equal arguments, after the optimizer, and
/// make the same calls, between steps. The folder must be one that all ranks share.
template <class Rule, class Stage, class Precision, class Comm>
class Checkpoints {
 public:
  using Json = checkpoint::Json;
  using Optimizer = Sharded<Rule, Stage, Precision, Comm>;

  /// Makes a queue of its own from `comm`, the optimizer's communicator. Both must outlive this object. Throws
  /// OptionError.
  Checkpoints(Comm& comm, Optimizer& optimizer, std::string folder, const CheckpointOptions& options = {})
      : optimizer_(&optimizer),
        folder_(std::move(folder)),
        options_(options),
        ranks_(comm, options.timeout) {
    if (options.keep < 1) throw OptionError(message({"checkpoints: keep must be at least 1, is ", options.keep}));
  }

  /// Writes a checkpoint: what this rank owns, the control state with all hyperparameters, and `user`, the caller's own
  /// data (rank 0's is written). Returns when the checkpoint is on the device and current. A rank holds at most one
  /// buffer of 1 MiB beside its arrays. If a rank fails, it throws CheckpointError, others throw PeerError, and the
  /// checkpoints before are as they were. Throws UsageError in the middle of a step. Blocks until all ranks have called.
  void save(const Json& user = Json::object()) {
    ControlState<Rule> control;
    std::uint64_t header_sum = 0;
    const auto unwritten = checkpoint::caught([&] {
      checkpoint::check_tensors(checkpoint::describe_tensors(optimizer_->layout()), optimizer_->layout());  // names
      control = optimizer_->control_state();
      header_sum = write_own_file();
    });
    const Words sums =
        ranks_.require_all(unwritten, header_sum, folder_.path(), "could not write its part of the checkpoint");
    const auto uncommitted = checkpoint::caught([&] {
      if (ranks_.rank() == 0) commit(control, user, sums);
    });
    ranks_.require_all(uncommitted, 0, folder_.path(), "could not make the checkpoint current");
  }

  /// The names of the checkpoints in the folder, newest first. Throws CheckpointError if the list is damaged.
  std::vector<std::string> names() const { return folder_.names(); }

  /// Loads a checkpoint, the newest one by default, whatever stage, world size and group size it was saved at. The run
  /// continues with the bits of an undisturbed one. Returns the caller's data. This rank reads only the blocks of 1 MiB
  /// that have what it holds. Throws CheckpointError, which names the file and the tensor, if the checkpoint is damaged
  /// or does not fit the optimizer, before anything changes; other ranks throw PeerError. If a block turns out to be
  /// damaged while it is read, there are no weights. Blocks until all ranks have called.
  Json load() {
    std::string name;
    const auto problem = checkpoint::caught([&] {
      const auto all = names();
      if (all.empty()) throw CheckpointError(message({folder_.path(), ": there is no checkpoint"}));
      name = all.front();
    });
    return load(name, problem);
  }
  Json load(const std::string& name) {
    return load(name, checkpoint::caught([&] { folder_.require_name(name); }));
  }

 private:
  using Executor = typename Comm::Executor;
  using Words = core::List<std::uint64_t>;
  template <int r>
  using At = typename rule::Set<Rule>::template At<r>;

  std::uint64_t write_own_file() {
    checkpoint::make_folders(folder_.partial());
    checkpoint::SliceWriter writer(optimizer_->layout());
    optimizer_->for_each_owned_slice([&]<class T>(const TensorSlice<const T>& slice) {
      writer.template add<T>(slice.array, slice.tensor, slice.first, std::ssize(slice.elements));
    });
    writer.begin(message({folder_.partial(), "/", checkpoint::file_of_rank(ranks_.rank())}));
    optimizer_->for_each_owned_slice([&]<class T>(const TensorSlice<const T>& slice) {
      checkpoint::for_each_chunk(ranks_.executor(), slice.elements,
                                 [&](index_t, std::span<const std::byte> bytes) { writer.write(bytes); });
    });
    const std::uint64_t sum = writer.end();
    checkpoint::sync_folder(folder_.partial());
    return sum;
  }

  // On rank 0, after all files are on the device.
  void commit(const ControlState<Rule>& control, const Json& user, const Words& sums) {
    Json checksums = Json::array();
    for (const std::uint64_t sum : sums) checksums.push_back(checkpoint::hex(sum));
    const Json manifest{{"format", "tessera checkpoint"},
                        {"version", checkpoint::format_version},
                        {"stage", Stage::name},
                        {"precision", Precision::name},
                        {"rules", checkpoint::describe_rules<Rule>()},
                        {"control", checkpoint::control_to_json(control)},
                        {"tensors", checkpoint::describe_tensors(optimizer_->layout())},
                        {"header_checksums", checksums},
                        {"user", user}};
    folder_.commit(manifest, ranks_.world(), control.steps, options_.keep);
  }

  // problem: why this rank knows no checkpoint to load, or null.
  Json load(const std::string& name, std::exception_ptr problem) {
    std::unique_ptr<checkpoint::SavedSlices> slices;
    ControlState<Rule> control;
    Json user;
    std::uint64_t sum = 0;
    if (!problem)
      problem = checkpoint::caught([&] { sum = read(folder_.path_of(name), slices, control, user); });
    const Words sums = ranks_.require_all(problem, sum, folder_.path(), "could not read the checkpoint");
    for (int r = 1; r < ranks_.world(); ++r)
      if (sums[to_size(r)] != sums[0])
        throw AgreementError(message({"ranks 0 and ", r, " loaded different checkpoints from ", folder_.path(),
                                      ": the folder must be one that all ranks share"}));
    optimizer_->set_control_state(control);
    const Layout& layout = optimizer_->layout();
    optimizer_->load_slices([&]<class T>(const TensorSlice<T>& slice) {
      read(*slices, slice.array, layout.name(slice.tensor), slice.first, slice.elements);
    });
    return user;
  }

  template <class T>
  void read(checkpoint::SavedSlices& slices, const std::string& array, const std::string& tensor, index_t first,
            std::span<T> elements) {
    if constexpr (Executor::synchronous) {
      slices.read(array, tensor, first, elements);
    } else {
      constexpr std::size_t most = to_size(checkpoint::block_bytes) / sizeof(T);
      std::vector<T> host(min(elements.size(), most));
      for (; !elements.empty(); elements = elements.subspan(min(elements.size(), most))) {
        const auto part = elements.first(min(elements.size(), most));
        slices.read(array, tensor, first, std::span(host).first(part.size()));
        ranks_.executor().upload(part, host.data());
        first += std::ssize(part);
      }
    }
  }

  // Reads everything but the data, and checks that it fits. Returns the manifest's checksum.
  std::uint64_t read(const std::string& folder, std::unique_ptr<checkpoint::SavedSlices>& slices,
                     ControlState<Rule>& control, Json& user) const {
    const std::string path = message({folder, "/manifest.json"});
    std::vector<std::string> tensors;
    std::vector<std::uint64_t> sums;
    const std::uint64_t own_sum = checkpoint::reading(path, [&] {
      const Json manifest = checkpoint::read_json(path);
      require_same("format", manifest.at("format"), "tessera checkpoint");
      require_same("version", manifest.at("version"), checkpoint::format_version);
      require_same("precision", manifest.at("precision"), Precision::name);
      require_same("rules", manifest.at("rules"), checkpoint::describe_rules<Rule>());
      checkpoint::check_tensors(manifest.at("tensors"), optimizer_->layout());
      control = checkpoint::control_from_json<Rule>(manifest.at("control"));
      user = manifest.at("user");
      for (const Json& tensor : manifest.at("tensors")) tensors.push_back(tensor.at("name").template get<std::string>());
      for (const Json& text : manifest.at("header_checksums"))
        sums.push_back(checkpoint::number_of_hex(text.template get<std::string>()));
      return checkpoint::number_of_hex(manifest.at("checksum").template get<std::string>());
    });
    checkpoint::reading(folder, [&] {
      slices = std::make_unique<checkpoint::SavedSlices>(folder, sums, tensors);
      require_arrays(*slices, control.evaluating());
    });
    return own_sum;
  }

  static void require_same(const char* what, const Json& saved, const Json& mine) {
    if (saved != mine)
      throw CheckpointError(message({what, " is ", saved.dump(), " in the checkpoint, and ", mine.dump(), " here"}));
  }

  // Throws CheckpointError unless the slices are all that the optimizer needs.
  void require_arrays(const checkpoint::SavedSlices& slices, bool evaluating) const {
    using Parameter = typename Precision::Parameter;
    const Layout& layout = optimizer_->layout();
    for (const Tensor t : layout.tensors()) {
      const auto require = [&]<class T>(const char* array, std::type_identity<T>) {
        slices.require_whole(array, layout.name(t), checkpoint::data_type<T>(), layout.elements(t));
      };
      require("parameter", std::type_identity<Parameter>{});
      if (layout.frozen(t)) continue;
      if constexpr (precision::master_bytes<Precision> > 0)
        require("master", std::type_identity<typename Precision::Master>{});
      rule::with<Rule>(layout.rule(t), [&](auto r) {
        for (const char* name : At<r>::state_names) require(name, std::type_identity<typename Precision::State>{});
        if constexpr (HasEvaluationWeights<At<r>> && !precision::parameter_follows_master<Precision>)
          if (evaluating) require("trained", std::type_identity<Parameter>{});
      });
    }
  }

  Optimizer* optimizer_;
  checkpoint::Folder folder_;
  CheckpointOptions options_;
  checkpoint::RanksOf<Comm> ranks_;
};

}  // namespace tessera
