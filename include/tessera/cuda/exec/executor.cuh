// The executor of a CUDA device: memory, and loops over it as kernels on one stream. Nothing that a step calls waits
// for the device or allocates, and all of it can be captured in a graph.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>
#include <tessera/cuda/runtime/buffer.cuh>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/exec/digest.cuh>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/exec/for_each.cuh>
#include <tessera/cuda/exec/from_host.cuh>
#include <tessera/cuda/runtime/memory.cuh>
#include <tessera/cuda/exec/read_back.cuh>
#include <tessera/cuda/exec/squares.cuh>
#include <tessera/cuda/runtime/stream.cuh>
#include <tessera/exec/buffer.hpp>

namespace tessera {

/// One thread at a time may call it and its copies, which share the stream. A copy counts its own bytes. Whatever the
/// calling thread's current device is, an executor works on its own and leaves the thread's as it was.
class Cuda {
 public:
  using Event = CudaEvent;
  template <class T>
  using Buffer = CudaBuffer<T>;
  template <class T>
  using ReadBack = CudaReadBack<T>;

  /// Work is enqueued, and its memory is the device's.
  static constexpr bool synchronous = false;

  /// On a stream of its own of the current device. Throws CudaError: no device, no driver, an old one.
  Cuda() : Cuda(std::make_shared<StreamState>(CudaStream{}), plain_memory()) {}

  /// On the caller's compute stream, of the current device; it outlives this and all copies. memory: where buffers come
  /// from. Throws CudaError.
  explicit Cuda(cudaStream_t stream, std::shared_ptr<DeviceMemory> memory = plain_memory())
      : Cuda(std::make_shared<StreamState>(stream), std::move(memory)) {}

  Cuda(const Cuda& other) : Cuda(other.state_, other.memory_) {}
  Cuda(Cuda&&) noexcept = default;
  Cuda& operator=(Cuda&&) noexcept = default;

  cudaStream_t stream() const noexcept { return state_->stream; }
  int device() const noexcept { return state_->device; }

  /// n elements, zero at first, at a 256-byte border; n = 0 is legal. Throws CudaError.
  template <class T>
  Buffer<T> allocate(index_t n) {
    const device::Use use(device());
    return Buffer<T>(n, stream(), memory_, count_);
  }

  /// What the buffers of this executor hold now, and held at most: elements times their size, nothing added.
  index_t allocated_bytes() const noexcept { return count_->held(); }
  index_t peak_bytes() const noexcept { return count_->peak(); }

  /// The event of all work given so far.
  Event record() {
    const device::Use use(device());
    return Event(state_->events.record(stream()));
  }
  /// What is given from now on runs after `event`.
  void wait(const Event& event) {
    const device::Use use(device());
    event.hold(stream());
  }

  /// Other streams of the same device, beside the executor's own. fork: what `stream` is given from now on runs after
  /// what the executor was given so far. join: the other way round.
  void fork(cudaStream_t stream) {
    const device::Use use(device());
    Event(state_->events.record(this->stream())).hold(stream);
  }
  void join(cudaStream_t stream) {
    const device::Use use(device());
    Event(state_->joined.record(stream)).hold(this->stream());
  }

  /// body(i) for 0 <= i < n. What body must be: cuda/exec/for_each.cuh.
  template <class Body>
  void for_each(index_t n, const Body& body) {
    const device::Use use(device());
    device::for_each(n, body, state_->multiprocessors, stream());
  }

  /// body(), by one thread.
  template <class Body>
  void once(const Body& body) {
    const device::Use use(device());
    device::launch(device::once_kernel<Body>, 1, 1, stream(), body);
  }

  /// Adds the squares of `values`, in 64-element blocks (exec/squares.hpp), to *sum, which lies in this executor's
  /// memory; blocks that hold a non-finite element are left out, and sum->first_non_finite is lowered to place + the
  /// first one's index.
  template <class T>
  void add_squares(std::span<const T> values, index_t place, SquareSum* sum) {
    const auto n = static_cast<index_t>(values.size());
    if (n == 0) return;
    const device::Use use(device());
    device::launch(device::add_squares_kernel<T>, device::squares_blocks(n, state_->multiprocessors),
                   device::squares_tuning.threads, stream(), values.data(), n, place, sum);
  }

  /// Adds the squares of what body(i) returns for 0 <= i < n to *sum, as add_squares does; the 0th is the `lead`-th
  /// element of its block. Blocks with a number that is not finite are left out.
  template <class Body>
  void add_squares_of(index_t n, index_t lead, const Body& body, ExactSum* sum) {
    if (n == 0) return;
    const device::Use use(device());
    device::launch(device::add_squares_of_kernel<Body>, device::squares_blocks(lead + n, state_->multiprocessors),
                   device::squares_tuning.threads, stream(), n, lead, body, sum);
  }

  /// The number that Host gives for the same values. Blocks.
  template <class T>
  std::uint64_t digest(std::span<const T> values) {
    const device::Use use(device());
    const auto n = static_cast<index_t>(values.size());
    std::uint64_t* const sum = state_->word.span().data();
    cuda_check(cudaMemsetAsync(sum, 0, sizeof *sum, stream()), "clearing device memory");
    if (n > 0) {
      const auto most =
          static_cast<index_t>(state_->multiprocessors) * device::digest_tuning.blocks_a_multiprocessor;
      constexpr index_t of_block = device::digest_tuning.threads / 32 * value_digest::block_elements<T>;
      device::launch(device::digest_kernel<T>, device::blocks_for(n, of_block, most), device::digest_tuning.threads,
                     stream(), values.data(), n, sum);
    }
    return value_digest::of_length(n) + read_back(sum).get();
  }

  /// body(i, value(i)) for 0 <= i < n: value runs on the calling thread, in order, and returns a float. Blocks.
  template <class Value, class Body>
  void from_host(index_t n, Value&& value, const Body& body) {
    const device::Use use(device());
    device::from_host(n, value, body, state_->chunks, state_->multiprocessors, stream());
  }

  /// Copies between the host's memory and this executor's, behind the work given so far. Block.
  template <class T>
  void upload(std::span<T> to, const T* from) {
    copy(to.data(), from, to.size_bytes(), cudaMemcpyHostToDevice);
  }
  template <class T>
  void download(std::span<const T> from, T* to) {
    copy(to, from.data(), from.size_bytes(), cudaMemcpyDeviceToHost);
  }

  /// *from as it is when the work given so far is done.
  template <class T>
  ReadBack<T> read_back(const T* from) {
    const device::Use use(device());
    return ReadBack<T>(from, stream(), state_->read_backs);
  }

  /// Throws BufferError, which names the buffer, unless these bytes are memory of the device, or managed.
  void check_reachable(const char* name, const void* memory, index_t bytes) const {
    const device::Use use(device());
    device::check_reachable(name, memory, bytes, device());
  }

 private:
  // What copies share.
  struct StreamState {
    explicit StreamState(cudaStream_t of_caller) : stream(of_caller) {}
    explicit StreamState(CudaStream of_its_own) : own(std::move(of_its_own)), stream(own->get()) {}

    std::optional<CudaStream> own;
    cudaStream_t stream;
    int device = device::current();
    int multiprocessors = device::multiprocessors(device);
    EventRing events;
    EventRing joined{1};  // of any stream: each is waited for as soon as it is recorded
    std::shared_ptr<device::ReadBackSlots> read_backs = std::make_shared<device::ReadBackSlots>();
    device::HostChunks chunks;
    CudaBuffer<std::uint64_t> word{1, stream, plain_memory(), std::make_shared<exec::ByteCount>()};  // a digest
  };

  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return;
    const device::Use use(device());
    cuda_check(cudaMemcpyAsync(to, from, bytes, kind, stream()), "copying memory");
    cuda_check(cudaStreamSynchronize(stream()), "waiting for a copy");
  }

  static std::shared_ptr<DeviceMemory> plain_memory() { return std::make_shared<PlainDeviceMemory>(); }

  Cuda(std::shared_ptr<StreamState> line, std::shared_ptr<DeviceMemory> memory)
      : state_(std::move(line)), memory_(std::move(memory)), count_(std::make_shared<exec::ByteCount>()) {}

  std::shared_ptr<StreamState> state_;
  std::shared_ptr<DeviceMemory> memory_;
  std::shared_ptr<exec::ByteCount> count_;
};

}  // namespace tessera
