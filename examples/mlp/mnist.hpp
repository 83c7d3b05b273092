// Handwritten digits from IDX files, the format of MNIST: 28 x 28 bytes per image, gzipped.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace mlp {

inline constexpr int pixels = 28 * 28;
inline constexpr int classes = 10;

struct Digits {
  std::vector<float> images;  ///< [size * pixels], 0 to 1
  std::vector<int> labels;    ///< [size]
  int size() const { return static_cast<int>(labels.size()); }

  Digits part(int begin, int end) const {
    return {{images.begin() + begin * pixels, images.begin() + end * pixels},
            {labels.begin() + begin, labels.begin() + end}};
  }
};

/// The bytes of an IDX file after its header. Throws std::runtime_error that names the file.
inline std::vector<std::uint8_t> read_idx(const std::string& path, std::uint32_t magic,
                                          std::vector<std::uint32_t>& sizes) {
  const gzFile file = gzopen(path.c_str(), "rb");
  if (!file) throw std::runtime_error("cannot open " + path + ": --data wants a folder with MNIST's .gz files");
  const auto read = [&](void* to, std::size_t bytes) {
    auto* at = static_cast<std::uint8_t*>(to);
    while (bytes > 0) {
      const int got = gzread(file, at, static_cast<unsigned>(std::min<std::size_t>(bytes, 1u << 30)));
      if (got <= 0) {
        gzclose(file);
        throw std::runtime_error(path + " is cut short or damaged: fetch it again");
      }
      at += got;
      bytes -= static_cast<std::size_t>(got);
    }
  };
  const auto number = [&] {
    std::uint8_t b[4];
    read(b, 4);
    return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
  };
  if (number() != magic) {
    gzclose(file);
    throw std::runtime_error(path + " is not the IDX file that its name says");
  }
  std::size_t bytes = 1;
  for (std::uint32_t dimension = 0; dimension < (magic & 0xff); ++dimension) {
    sizes.push_back(number());
    bytes *= sizes.back();
  }
  if (bytes > (std::size_t{1} << 31)) {
    gzclose(file);
    throw std::runtime_error(path + " claims " + std::to_string(bytes) + " bytes: fetch it again");
  }
  std::vector<std::uint8_t> data(bytes);
  read(data.data(), bytes);
  gzclose(file);
  return data;
}

/// name: "t10k" or "train". Throws std::runtime_error that names the file.
inline Digits load_digits(const std::string& folder, const std::string& name) {
  std::vector<std::uint32_t> image_sizes, label_sizes;
  const std::string image_path = folder + "/" + name + "-images-idx3-ubyte.gz";
  const std::string label_path = folder + "/" + name + "-labels-idx1-ubyte.gz";
  const auto images = read_idx(image_path, 0x803, image_sizes);
  const auto labels = read_idx(label_path, 0x801, label_sizes);
  if (image_sizes[0] == 0) throw std::runtime_error(image_path + " has no images");
  if (image_sizes[0] != label_sizes[0] || image_sizes[1] * image_sizes[2] != pixels)
    throw std::runtime_error(image_path + " and " + label_path + " do not belong together");
  Digits digits;
  digits.images.resize(images.size());
  std::transform(images.begin(), images.end(), digits.images.begin(),
                 [](std::uint8_t byte) { return static_cast<float>(byte) / 255.0f; });
  for (const std::uint8_t label : labels) {
    if (label >= classes) throw std::runtime_error(label_path + " has the label " + std::to_string(label));
    digits.labels.push_back(label);
  }
  return digits;
}

struct Split {
  Digits training, held_out;
};

/// The 10,000 included images: 9,000 for training, 1,000 held out. With a folder of the full set: its two parts.
/// folder: empty for the included images. Throws std::runtime_error that names the file.
inline Split load_split(const std::string& folder) {
  if (!folder.empty()) return {load_digits(folder, "train"), load_digits(folder, "t10k")};
  const Digits all = load_digits(TESSERA_SOURCE_DIR "/examples/data", "t10k");
  return {all.part(0, all.size() - 1000), all.part(all.size() - 1000, all.size())};
}

}  // namespace mlp
