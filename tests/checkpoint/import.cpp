#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include <tessera/checkpoint/import.hpp>

#include "scratch.hpp"
#include "training.hpp"

namespace tessera {
namespace {

using checkpoint::Header;
using doctest::Contains;
using testing::ragged_layout;
using testing::Scratch;

TEST_CASE("exported parameters are imported at another stage and world size, from one file or several") {
  const Scratch scratch;
  const Layout layout = ragged_layout();
  std::vector<float> expected;
  run_ranks(3, [&](Local& comm) {
    Sharded<AdamW, Stage3, Bf16> optimizer(comm, layout, {}, std::vector<AdamW>(2), {.bucket_bytes = 700});
    optimizer.initialize(testing::made_up_weight);
    export_parameters(comm, optimizer, scratch / "one.safetensors");
    export_parameters(comm, optimizer, scratch / "several.safetensors", {.file_bytes = 500});
    const auto mine = testing::parameters_of(optimizer);
    if (comm.rank() == 0) expected = mine;
  });
  run_ranks(2, [&](Local& comm) {
    Sharded<AdamW, Stage1, Bf16> optimizer(comm, layout, {}, std::vector<AdamW>(2), {.check_weights = 1});
    for (const char* file : {"one.safetensors", "several.safetensors.index.json"}) {
      optimizer.initialize([](Tensor, index_t) { return 0.0f; });
      import_parameters(comm, optimizer, scratch / file);
      CHECK(testing::parameters_of(optimizer) == expected);
    }
    testing::run_pass(optimizer, 0, comm.rank());
    CHECK(optimizer.step().applied());
  });
}

// A file with one tensor "w" of `data`.
template <class T>
void write(const std::string& path, const std::vector<T>& data, const std::vector<index_t>& shape, const char* type = "") {
  const auto bytes = std::as_bytes(std::span(data));
  const std::string name = *type ? type : std::string(checkpoint::data_type<T>());
  const Header header{{{"w", name, shape, 0, std::ssize(bytes)}}, {}};
  checkpoint::FileWriter file(path);
  const std::string text = header.text("f");
  file.write(std::as_bytes(std::span(text)));
  file.write(bytes);
  file.sync_and_close();
}

Layout layout_of_w() {
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("w", {2, 2});
  return layout;
}

const auto last_part = [](const std::string& name) { return name.substr(name.find('.') + 1); };

TEST_CASE("master weights get what the file has, and parameters are rounded from it") {
  const Scratch scratch;
  const std::vector<float> values{1.0f / 3, -0.0f, 1e-40f, 65504};
  write(scratch / "f32", values, {2, 2});
  write(scratch / "f16", std::vector<float16>(values.begin(), values.end()), {2, 2});
  write(scratch / "bf16", std::vector<bfloat16>(values.begin(), values.end()), {2, 2});
  Self comm;
  Sharded<AdamW, Stage1, Bf16, Self> optimizer(comm, layout_of_w(), {}, AdamW{});
  const auto check = [&](const char* file, const auto& rounded) {
    import_parameters(comm, optimizer, scratch / file, {.rename = last_part});
    optimizer.for_each_owned_slice([&]<class T>(const TensorSlice<const T>& slice) {
      const std::string array = slice.array;
      for (std::size_t i = 0; i < slice.elements.size(); ++i) {
        const float value = rounded(values[i]);
        if (array == "master") CHECK(static_cast<float>(slice.elements[i]) == value);
        if (array == "parameter") CHECK(static_cast<float>(slice.elements[i]) == static_cast<float>(bfloat16(value)));
      }
    });
  };
  check("f32", [](float x) { return x; });
  check("f16", [](float x) { return static_cast<float>(float16(x)); });
  check("bf16", [](float x) { return static_cast<float>(bfloat16(x)); });
}

TEST_CASE("a tensor that is missing, of another shape or type is named, and the weights stay") {
  const Scratch scratch;
  write(scratch / "good", std::vector<float>(4, 2), {2, 2});
  write(scratch / "flat", std::vector<float>(4, 2), {4});
  write(scratch / "int", std::vector<float>(4, 2), {2, 2}, "I32");
  testing::write(scratch / "out.json", R"({"weight_map": {"w": "../good"}})");
  testing::write(scratch / "bad.json", "{}");
  Self comm;
  Sharded<AdamW, Stage1, Fp32, Self> optimizer(comm, layout_of_w(), {}, AdamW{});
  optimizer.initialize([](Tensor, index_t i) { return static_cast<float>(i); });
  const auto before = testing::parameters_of(optimizer);
  const auto refused = [&](const char* file, const char* why, const ImportOptions& options = {.rename = last_part}) {
    CHECK_THROWS_WITH_AS(import_parameters(comm, optimizer, scratch / file, options), Contains(why), CheckpointError);
    CHECK(testing::parameters_of(optimizer) == before);
  };
  refused("none", "/none: cannot open the file");
  refused("good", "there is no tensor 'u.w', from which 'u.w' would be read", {});
  refused("flat", "/flat: tensor 'w' has shape [4], and 'u.w' [2,2]");
  refused("int", "/int: tensor 'w' has type I32, and F32, BF16 or F16 can be read");
  refused("out.json", "'../good' is not the name of a file in its folder");
  refused("bad.json", "/bad.json: does not have the format");
  import_parameters(comm, optimizer, scratch / "good", {.rename = last_part});
  CHECK(testing::parameters_of(optimizer) == std::vector<float>(4, 2));
}

}  // namespace
}  // namespace tessera
