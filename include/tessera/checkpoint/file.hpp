// Files that survive a crash: every write is checked, files and folders are synced, and a name changes by a rename.
// Errors are CheckpointErrors that name the path. POSIX.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera::checkpoint {

/// The number with zeros before it, at least `digits` digits, for names of files.
inline std::string padded(index_t number, std::size_t digits) {
  const std::string text = std::to_string(number);
  return std::string(text.size() < digits ? digits - text.size() : 0, '0') + text;
}

/// Throws CheckpointError: the path, what failed, and the system's reason in errno.
[[noreturn]] inline void fail(const std::string& path, const char* what) {
  const int reason = errno;
  throw CheckpointError(message({path, ": ", what, ": ", std::strerror(reason)}));
}

/// An open file or folder.
class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(const std::string& path, int flags, const char* what) {
    do fd_ = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    while (fd_ < 0 && errno == EINTR);
    if (fd_ < 0) fail(path, what);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const noexcept { return fd_; }
  /// Closes it and returns whether that succeeded.
  bool close() noexcept { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_ = -1;
};

/// Waits until the names in a folder are on the device.
inline void sync_folder(const std::string& path) {
  const Descriptor folder(path, O_RDONLY | O_DIRECTORY, "cannot open the folder");
  if (::fsync(folder.get()) != 0) fail(path, "cannot sync the folder");
}

/// Creates a folder, and the folders above it, on the device. An existing one is accepted.
inline void make_folders(const std::string& path) {
  std::string outer = path.starts_with('/') ? "/" : ".";
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string above = path.substr(0, end);
    const bool created = ::mkdir(above.c_str(), 0777) == 0;
    if (!created && errno != EEXIST) fail(above, "cannot create the folder");
    if (created || end == std::string::npos) sync_folder(outer);  // the last one may be another rank's, just created
    if (end == std::string::npos) break;
    outer = above;
  }
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) fail(path, "cannot open the folder");
  if (S_ISDIR(found.st_mode)) return;
  errno = ENOTDIR;
  fail(path, "cannot create the folder");
}

/// Replaces `to` by `from` in one step.
inline void rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail(from, message({"cannot be renamed to ", to}).c_str());
}

/// A file that is written from its first byte. Replaces an earlier file of the name; refuses a symbolic link.
class FileWriter {
 public:
  explicit FileWriter(const std::string& path)
      : path_(path), file_(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, "cannot create the file") {}
  /// An existing file, to write_at() in it.
  struct Existing {};
  FileWriter(const std::string& path, Existing)
      : path_(path), file_(path, O_WRONLY | O_NOFOLLOW, "cannot open the file") {}

  /// Appends all bytes.
  void write(std::span<const std::byte> bytes) {
    write_at(bytes_, bytes);
    bytes_ += std::ssize(bytes);
  }

  /// Writes all bytes from `offset` on.
  void write_at(index_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(file_.get(), bytes.data(), bytes.size(), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n == 0) errno = ENOSPC;
      if (n <= 0) fail(path_, "cannot write");
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      offset += n;
    }
  }

  /// The number of bytes appended.
  index_t bytes() const noexcept { return bytes_; }

  /// Waits until the data is on the device, and closes the file.
  void sync_and_close() {
    if (::fsync(file_.get()) != 0) fail(path_, "cannot sync");
    if (!file_.close()) fail(path_, "cannot close");
  }

 private:
  std::string path_;
  Descriptor file_;
  index_t bytes_ = 0;
};

/// A regular file that is read at any offset. Refuses a symbolic link.
class FileReader {
 public:
  explicit FileReader(const std::string& path)
      : path_(path), file_(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, "cannot open the file") {
    struct stat found {};
    if (::fstat(file_.get(), &found) != 0) fail(path_, "cannot be examined");
    if (!S_ISREG(found.st_mode)) throw CheckpointError(message({path_, ": is not a regular file"}));
    bytes_ = found.st_size;
  }

  const std::string& path() const noexcept { return path_; }
  index_t bytes() const noexcept { return bytes_; }

  /// Reads to.size() bytes from `offset` on.
  void read(index_t offset, std::span<std::byte> to) const {
    while (!to.empty()) {
      const ssize_t n = ::pread(file_.get(), to.data(), to.size(), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(path_, "cannot read");
      if (n == 0) throw CheckpointError(message({path_, ": ends at byte ", offset, ": the file was cut off"}));
      to = to.subspan(static_cast<std::size_t>(n));
      offset += n;
    }
  }

 private:
  std::string path_;
  Descriptor file_;
  index_t bytes_ = 0;
};

/// Writes a whole file and syncs it.
inline void write_file(const std::string& path, std::string_view text) {
  FileWriter file(path);
  file.write(std::as_bytes(std::span(text)));
  file.sync_and_close();
}

/// Reads a whole file of at most `most` bytes.
inline std::string read_file(const std::string& path, index_t most) {
  const FileReader file(path);
  if (file.bytes() > most)
    throw CheckpointError(message({path, ": has ", file.bytes(), " bytes, more than the ", most, " of such a file"}));
  std::string text(to_size(file.bytes()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace tessera::checkpoint
