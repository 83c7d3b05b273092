// Captures and graphs. While a stream captures, its operations become nodes. A node depends on the last nodes of its
// stream, and an event stands for the last nodes of its stream when it was recorded. A launch of the graph runs the
// nodes in a random order among those that these edges allow.
#pragma once

#include <thread>

#include "scheduler.hpp"

namespace emulated {

struct Node {
  Operation operation;
  std::vector<std::size_t> after;
};

struct Capture {
  std::vector<Node> nodes;
  Stream* origin = nullptr;
  std::vector<Stream*> members;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id begun_by;
  bool invalid = false;
  bool over = false;
  unsigned long long number = 0;  // counts all captures, from 1
};

inline cudaStreamCaptureMode& interaction_mode() {
  thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  return mode;
}

inline cudaError_t spoil(const std::shared_ptr<Capture>& capture, cudaError_t error) {
  capture->invalid = true;
  return error;
}

// For calls that might wait for, or be ordered after, captured work that does not run (allocating, freeing,
// synchronizing, querying): rejected on a thread that captures, and on every thread during a Global capture.
inline cudaError_t refuse_in_capture() {
  const cudaStreamCaptureMode mode = interaction_mode();
  cudaError_t error = cudaSuccess;
  for (const auto& capture : machine().captures) {
    if (mode == cudaStreamCaptureModeRelaxed || capture->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool own = capture->begun_by == std::this_thread::get_id();
    const bool global = mode == cudaStreamCaptureModeGlobal && capture->mode == cudaStreamCaptureModeGlobal;
    if (own || global) error = spoil(capture, cudaErrorStreamCaptureUnsupported);
  }
  return error;
}

inline void add(std::vector<std::size_t>& nodes, const std::vector<std::size_t>& more) {
  for (const std::size_t node : more) {
    if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
  }
}

inline cudaError_t capture_operation(Stream& stream, Operation operation) {
  Capture& capture = *stream.capture;
  if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
  capture.nodes.push_back({std::move(operation), stream.tails});
  stream.tails = {capture.nodes.size() - 1};
  return cudaSuccess;
}

inline cudaError_t capture_wait(Stream& stream, const std::shared_ptr<Moment>& moment) {
  if (stream.capture && stream.capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (moment->capture == nullptr) return spoil(stream.capture, cudaErrorStreamCaptureIsolation);
  if (moment->capture->over) {
    return stream.capture ? spoil(stream.capture, cudaErrorStreamCaptureIsolation) : cudaErrorCapturedEvent;
  }
  if (stream.capture == nullptr) {  // a fork
    if (moment->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    stream.capture = moment->capture;
    stream.tails.clear();
    stream.capture->members.push_back(&stream);
  }
  if (stream.capture != moment->capture) {
    spoil(moment->capture, cudaErrorStreamCaptureMerge);
    return spoil(stream.capture, cudaErrorStreamCaptureMerge);
  }
  add(stream.tails, moment->nodes);
  return cudaSuccess;
}

// Ends the capture; its streams become normal streams again. It is an error if the origin did not join all forks.
inline cudaError_t end_capture(Stream& stream, std::vector<Node>& nodes) {
  const std::shared_ptr<Capture> capture = stream.capture;
  if (capture == nullptr || capture->origin != &stream) return cudaErrorStreamCaptureUnmatched;
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->begun_by != std::this_thread::get_id()) {
    return spoil(capture, cudaErrorStreamCaptureWrongThread);
  }
  std::vector<char> joined(capture->nodes.size());
  for (const Node& node : capture->nodes) {
    for (const std::size_t before : node.after) joined[before] = true;
  }
  for (const std::size_t last : stream.tails) joined[last] = true;
  capture->over = true;
  for (Stream* member : capture->members) member->capture = nullptr;
  std::erase(machine().captures, capture);
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (std::find(joined.begin(), joined.end(), false) != joined.end()) return cudaErrorStreamCaptureUnjoined;
  nodes = std::move(capture->nodes);
  return cudaSuccess;
}

// A launch of a graph in flight. It has copies of the nodes' operations, since operations store their progress.
class Replay {
 public:
  explicit Replay(std::vector<Node> nodes) : nodes_(std::move(nodes)), done_(nodes_.size()) {}

  Progress operator()() {
    std::vector<std::size_t> ready;
    for (std::size_t node = 0; node < nodes_.size(); ++node) {
      const auto& after = nodes_[node].after;
      if (!done_[node] && std::all_of(after.begin(), after.end(), [&](std::size_t before) { return done_[before]; })) {
        ready.push_back(node);
      }
    }
    if (ready.empty()) return Progress::done;
    std::shuffle(ready.begin(), ready.end(), machine().random);
    for (const std::size_t node : ready) {
      const Progress progress = nodes_[node].operation.advance();
      if (progress == Progress::done) done_[node] = true;
      if (progress != Progress::blocked) return Progress::more;
    }
    return Progress::blocked;
  }

 private:
  std::vector<Node> nodes_;
  std::vector<char> done_;
};

}  // namespace emulated

struct CUgraph_st {
  std::vector<emulated::Node> nodes;
};
struct CUgraphExec_st {
  std::vector<emulated::Node> nodes;
  std::shared_ptr<emulated::Moment> last;  // launches of one graph do not overlap
};
