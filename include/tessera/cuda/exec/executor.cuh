// The executor of a CUDA device: memory, and loops over it as kernels on one stream. No call of a step waits for the
// device or allocates memory, and all of them can be captured in a CUDA graph.
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

/// An executor and its copies share the stream; one thread at a time may call them. A copy counts its own bytes. An
/// executor works on its own device and restores the calling thread's current device.
class Cuda {
 public:
  using Event = CudaEvent;
  template <class T>
  using Buffer = CudaBuffer<T>;
  template <class T>
  using ReadBack = CudaReadBack<T>;

  /// Work is enqueued, and the host cannot access the memory.
  static constexpr bool synchronous = false;

  /// Creates a stream on the current device. Throws CudaError, also if there is no device or driver, or an old driver.
  Cuda() : Cuda(std::make_shared<StreamState>(CudaStream{}), plain_memory()) {}

  /// Uses the caller's compute stream of the current device, which must outlive this and all copies. memory: the source
  /// of the buffers. Throws CudaError.
  explicit Cuda(cudaStream_t stream, std::shared_ptr<DeviceMemory> memory = plain_memory())
      : Cuda(std::make_shared<StreamState>(stream), std::move(memory)) {}

  Cuda(const Cuda& other) : Cuda(other.state_, other.memory_) {}
  Cuda(Cuda&&) noexcept = default;
  Cuda& operator=(Cuda&&) noexcept = default;

  cudaStream_t stream() const noexcept { return state_->stream; }
  int device() const noexcept { return state_->device; }

  /// n elements, zero at first, aligned to 256 bytes; n may be 0. Throws CudaError.
  template <class T>
  Buffer<T> allocate(index_t n) {
    const device::Use use(device());
    return Buffer<T>(n, stream(), memory_, count_);
  }

  /// The bytes that this executor's buffers hold now, and the peak: elements times element size, without overhead.
  index_t allocated_bytes() const noexcept { return count_->held(); }
  index_t peak_bytes() const noexcept { return count_->peak(); }

  /// The event of all work so far.
  Event record() {
    const device::Use use(device());
    return Event(state_->events.record(stream()));
  }
  /// Later work waits for `event`.
  void wait(const Event& event) {
    const device::Use use(device());
    event.hold(stream());
  }

  /// For other streams of the same device. fork: later work on `stream` waits for the executor's work so far. join: the
  /// executor's later work waits for the work on `stream` so far.
  void fork(cudaStream_t stream) {
    const device::Use use(device());
    Event(state_->events.record(this->stream())).hold(stream);
  }
  void join(cudaStream_t stream) {
    const device::Use use(device());
    Event(state_->joined.record(stream)).hold(this->stream());
  }

  /// Calls body(i) for 0 <= i < n. For body's requirements see cuda/exec/for_each.cuh.
  template <class Body>
  void for_each(index_t n, const Body& body) {
    const device::Use use(device());
    device::for_each(n, body, state_->multiprocessors, stream());
  }

  /// Calls body() on one thread.
  template <class Body>
  void once(const Body& body) {
    const device::Use use(device());
    device::launch(device::once_kernel<Body>, 1, 1, stream(), body);
  }

  /// Adds the squares of `values`, in 64-element blocks (exec/squares.hpp), to *sum, which is in this executor's
  /// memory. Skips blocks with a non-finite element, and lowers sum->first_non_finite to place + the index of the first
  /// one.
  template <class T>
  void add_squares(std::span<const T> values, index_t place, SquareSum* sum) {
    const auto n = static_cast<index_t>(values.size());
    if (n == 0) return;
    const device::Use use(device());
    device::launch(device::add_squares_kernel<T>, device::squares_blocks(n, state_->multiprocessors),
                   device::squares_tuning.threads, stream(), values.data(), n, place, sum);
  }

  /// Adds the squares of body(i) for 0 <= i < n to *sum, as add_squares does; element 0 is element `lead` of its block.
  /// Skips blocks with a non-finite number.
  template <class Body>
  void add_squares_of(index_t n, index_t lead, const Body& body, ExactSum* sum) {
    if (n == 0) return;
    const device::Use use(device());
    device::launch(device::add_squares_of_kernel<Body>, device::squares_blocks(lead + n, state_->multiprocessors),
                   device::squares_tuning.threads, stream(), n, lead, body, sum);
  }

  /// The same digest as Host's for the same values. Blocks.
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

  /// Copies between host memory and this executor's memory, after the work so far. Blocks.
  template <class T>
  void upload(std::span<T> to, const T* from) {
    copy(to.data(), from, to.size_bytes(), cudaMemcpyHostToDevice);
  }
  template <class T>
  void download(std::span<const T> from, T* to) {
    copy(to, from.data(), from.size_bytes(), cudaMemcpyDeviceToHost);
  }

  /// *from after the work so far.
  template <class T>
  ReadBack<T> read_back(const T* from) {
    const device::Use use(device());
    return ReadBack<T>(from, stream(), state_->read_backs);
  }

  /// Throws BufferError that names the buffer, unless the bytes are memory of this device or managed memory.
  void check_reachable(const char* name, const void* memory, index_t bytes) const {
    const device::Use use(device());
    device::check_reachable(name, memory, bytes, device());
  }

 private:
  // The state that copies share.
  struct StreamState {
    explicit StreamState(cudaStream_t of_caller) : stream(of_caller) {}
    explicit StreamState(CudaStream of_its_own) : own(std::move(of_its_own)), stream(own->get()) {}

    std::optional<CudaStream> own;
    cudaStream_t stream;
    int device = device::current();
    int multiprocessors = device::multiprocessors(device);
    EventRing events;
    EventRing joined{1};  // for any stream: each event is waited for as soon as it is recorded
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
