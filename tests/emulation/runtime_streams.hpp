// Streams, events, launches, captures and graphs.
#pragma once

#include "call.hpp"
#include "kernel.hpp"

inline cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return emulated::call([&] { return *least = 0, *greatest = -5, cudaSuccess; });
}
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return emulated::call([&] {
    const int device = emulated::current_device();
    const auto legacy = emulated::find(nullptr), made = emulated::make_stream(device, flags != cudaStreamNonBlocking);
    if (made->blocking) emulated::order(*legacy, *made);
    *stream = made.get();
    return cudaSuccess;
  });
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }

namespace emulated {

// Calls call() with the stream of `handle`.
template <class F>
cudaError_t on_stream(cudaStream_t handle, const F& f) {
  return call([&] {
    const StreamPtr stream = find(handle);
    return stream ? f(stream) : cudaErrorInvalidResourceHandle;
  });
}

// For calls that wait for or query a stream: rejected for a stream that captures.
template <class F>
cudaError_t on_plain_stream(cudaStream_t handle, const F& f) {
  return on_stream(handle, [&](const StreamPtr& stream) {
    if (stream->capture) return spoil(stream->capture, cudaErrorStreamCaptureUnsupported);
    const cudaError_t error = refuse_in_capture();
    return error == cudaSuccess ? f(stream) : error;
  });
}

// The same for an event; null if it was never recorded.
template <class F>
cudaError_t on_plain_event(cudaEvent_t handle, const F& f) {
  return call([&] {
    if (!is_event(handle)) return cudaErrorInvalidResourceHandle;
    const std::shared_ptr<Moment> moment = handle->last;
    if (moment && moment->capture) return spoil(moment->capture, cudaErrorCapturedEvent);
    const cudaError_t error = refuse_in_capture();
    return error == cudaSuccess ? f(moment) : error;
  });
}

}  // namespace emulated

// Enqueued work still runs.
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return emulated::on_stream(stream, [](const emulated::StreamPtr& destroyed) {
    if (destroyed->legacy) return cudaErrorInvalidResourceHandle;
    destroyed->destroyed = true;
    if (destroyed->operations.empty()) std::erase(emulated::machine().streams, destroyed);
    return cudaSuccess;
  });
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return emulated::on_plain_stream(
      stream, [](const emulated::StreamPtr& awaited) { return emulated::synchronize(awaited), cudaSuccess; });
}
inline cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return emulated::on_plain_stream(stream, [](const emulated::StreamPtr& asked) {
    emulated::run_some();
    return asked->operations.empty() ? cudaSuccess : cudaErrorNotReady;
  });
}
inline cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& of) { return *device = of->device, cudaSuccess; });
}

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return emulated::call([&] {
    *event = new CUevent_st{emulated::current_device(), nullptr};
    emulated::machine().events.insert(*event);
    return cudaSuccess;
  });
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return emulated::call([&] {
    if (emulated::machine().events.erase(event) == 0) return cudaErrorInvalidResourceHandle;
    delete event;
    return cudaSuccess;
  });
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& of) {
    if (!emulated::is_event(event) || event->device != of->device) return cudaErrorInvalidResourceHandle;
    return emulated::record(*of, event->last);
  });
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return emulated::on_plain_event(event, [](const auto& moment) {
    emulated::run_until([&] { return !moment || moment->happened; });
    return cudaSuccess;
  });
}
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  return emulated::on_plain_event(event, [](const auto& moment) {
    emulated::run_some();
    return !moment || moment->happened ? cudaSuccess : cudaErrorNotReady;
  });
}
// Refers to the event's last record at the time of this call.
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned = 0) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& waits) {
    if (!emulated::is_event(event)) return cudaErrorInvalidResourceHandle;
    if (event->last) return emulated::wait_for(*waits, event->last);
    return waits->capture ? emulated::spoil(waits->capture, cudaErrorStreamCaptureIsolation) : cudaSuccess;
  });
}

namespace emulated {

// Runs on a thread of its own, as in CUDA: it may wait for anything except CUDA.
class HostFunction {
 public:
  HostFunction(cudaHostFn_t function, void* data) : function_(function), data_(data) {}

  Progress operator()() {
    if (!running_) {
      running_ = std::make_shared<Running>();
      running_->thread = std::thread([function = function_, data = data_, running = running_.get()] {
        function(data);
        const Lock lock(machine().mutex);
        running->over = true;
        machine().changed.notify_all();
      });
      return Progress::more;
    }
    if (!running_->over) return Progress::blocked;
    running_->thread.join();
    return Progress::done;
  }

 private:
  struct Running {
    std::thread thread;
    bool over = false;
  };
  cudaHostFn_t function_;
  void* data_;
  std::shared_ptr<Running> running_;  // null until it is first on the stream
};

}  // namespace emulated

inline cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& of) {
    return emulated::enqueue(*of, {"host function", emulated::HostFunction(function, data)});
  });
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((std::size_t{0} + ... + sizeof(Parameters)) <= 32764, "a kernel takes up to 32764 bytes of arguments");
  return emulated::on_stream(config->stream, [&](const emulated::StreamPtr& stream) {
    const dim3 grid = config->gridDim, block = config->blockDim;
    if (stream->device != emulated::current_device()) return cudaErrorInvalidResourceHandle;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0 ||
        std::uint64_t{block.x} * block.y * block.z > 1024 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
      return cudaErrorInvalidConfiguration;
    }
    std::function<void()> thread = [kernel, values = std::tuple<std::remove_cv_t<Parameters>...>(
                                                std::forward<Arguments>(arguments)...)] { std::apply(kernel, values); };
    return emulated::enqueue(*stream, {"kernel", emulated::Grid(grid, block, stream->device, std::move(thread))});
  });
}
template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(Parameters...), int threads,
                                                          std::size_t) {
  return *blocks = threads > 0 ? 2048 / threads : 0, cudaSuccess;
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& origin) {
    if (origin->legacy) return cudaErrorStreamCaptureUnsupported;
    if (origin->capture) return emulated::spoil(origin->capture, cudaErrorStreamCaptureUnsupported);
    static unsigned long long captures = 0;
    origin->capture = std::make_shared<emulated::Capture>();
    *origin->capture = {.nodes = {},
                        .origin = origin.get(),
                        .members = {origin.get()},
                        .mode = mode,
                        .begun_by = std::this_thread::get_id(),
                        .number = ++captures};
    origin->tails.clear();
    emulated::machine().captures.push_back(origin->capture);
    return cudaSuccess;
  });
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& origin) {
    *graph = nullptr;
    std::vector<emulated::Node> nodes;
    const cudaError_t error = emulated::end_capture(*origin, nodes);
    if (error == cudaSuccess) *graph = new CUgraph_st{std::move(nodes)};
    return error;
  });
}
inline cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                            unsigned long long* number = nullptr) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& asked) {
    if (number != nullptr && asked->capture) *number = asked->capture->number;
    *status = !asked->capture           ? cudaStreamCaptureStatusNone
              : asked->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                        : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return cudaStreamGetCaptureInfo(stream, status);
}
inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return emulated::call([&] { return std::swap(*mode, emulated::interaction_mode()), cudaSuccess; });
}

inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* graph_exec, cudaGraph_t graph, unsigned long long = 0) {
  return emulated::call([&] { return *graph_exec = new CUgraphExec_st{graph->nodes, {}}, cudaSuccess; });
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph_exec, cudaStream_t stream) {
  return emulated::on_stream(stream, [&](const emulated::StreamPtr& of) {
    if (graph_exec->last) {
      const cudaError_t error = emulated::wait_for(*of, graph_exec->last);
      if (error != cudaSuccess) return error;
    }
    const cudaError_t error = emulated::enqueue(*of, {"graph", emulated::Replay(graph_exec->nodes)});
    return error == cudaSuccess ? emulated::record(*of, graph_exec->last) : error;
  });
}
inline cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void*, std::size_t* nodes) {
  return emulated::call([&] { return *nodes = graph->nodes.size(), cudaSuccess; });
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return emulated::call([&] { return delete graph, cudaSuccess; });
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph_exec) {
  return emulated::call([&] { return delete graph_exec, cudaSuccess; });
}
