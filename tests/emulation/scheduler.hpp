// Streams are queues of operations, and enqueuing runs nothing. A thread that waits (for a stream or an event) runs
// operations of ALL streams, in random order, until what it waits for is done. So every order that events allow can
// occur, a missing event gives wrong bits for some seed, and with one thread a seed determines the order.
//
// One mutex protects everything here, and operations run under it.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "memory.hpp"

namespace emulated {

using Lock = std::unique_lock<std::mutex>;
struct Capture;

enum class Progress { blocked, more, done };

// The first operation of a stream, called until it returns done. `blocked`: it made no progress.
struct Operation {
  const char* name;
  std::function<Progress()> advance;
};

// One record of an event. For a record within a capture: the nodes that it stands for.
struct Moment {
  bool happened = false;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> nodes;
};

}  // namespace emulated

struct CUstream_st {
  int device = 0;
  bool blocking = false;  // synchronizes with the legacy stream in both directions
  bool legacy = false;
  bool delayed = false;    // runs only if nothing else can
  bool destroyed = false;  // removed when it is empty
  std::uint64_t given = 0, finished = 0;
  std::deque<emulated::Operation> operations;
  std::shared_ptr<emulated::Capture> capture;  // null: operations are run, not captured
  std::vector<std::size_t> tails;              // of a capture: the predecessors of the next node
};

struct CUevent_st {
  int device = 0;
  std::shared_ptr<emulated::Moment> last;  // null: never recorded
};

namespace emulated {

using Stream = CUstream_st;
using StreamPtr = std::shared_ptr<Stream>;

struct Machine {
  std::mutex mutex;
  std::condition_variable changed;
  Memory memory;
  std::vector<StreamPtr> streams;
  std::set<CUevent_st*> events;
  std::vector<std::shared_ptr<Capture>> captures;  // that have not ended
  int devices = 1;
  DeviceSet reach[max_devices];  // the devices whose memory a kernel on each may access
  cudaError_t broken = cudaSuccess;
  std::mt19937_64 random;

  Machine() {
    for (int device = 0; device < max_devices; ++device) reach[device] = DeviceSet{1} << device;
    const char* seed = std::getenv("TESSERA_EMULATED_SEED");
    random.seed(seed ? std::strtoull(seed, nullptr, 10) : 1);
  }
  std::size_t draw(std::size_t below) { return static_cast<std::size_t>(random() % below); }
};

// Never destroyed, so that streams with static storage may be.
inline Machine& machine() {
  static Machine& it = *new Machine;
  return it;
}

// One step of a random stream that can make progress; false: none can.
inline bool step() {
  Machine& m = machine();
  std::vector<StreamPtr> order;
  for (const auto& stream : m.streams) {
    if (!stream->operations.empty()) order.push_back(stream);
  }
  std::shuffle(order.begin(), order.end(), m.random);
  std::stable_partition(order.begin(), order.end(), [](const auto& stream) { return !stream->delayed; });
  for (const auto& stream : order) {
    const Progress progress = stream->operations.front().advance();
    if (progress == Progress::blocked) continue;
    if (progress == Progress::done) {
      stream->operations.pop_front();
      ++stream->finished;
      if (stream->destroyed && stream->operations.empty()) std::erase(m.streams, stream);
    }
    m.changed.notify_all();
    return true;
  }
  return false;
}

// Prints what every stream waits for, for a test that hangs.
inline void tell_heads() {
  std::fputs("emulated CUDA: for 30 s nothing could run; streams wait at:", stderr);
  for (const auto& stream : machine().streams) {
    if (!stream->operations.empty()) std::fprintf(stderr, " [%s]", stream->operations.front().name);
  }
  std::fputs("\n", stderr);
}

// Runs operations until `done()`. If none can run, waits for other threads to enqueue. The mutex is held; only this
// function releases it temporarily.
template <class Done>
void run_until(const Done& done) {
  Machine& m = machine();
  Lock lock(m.mutex, std::adopt_lock);
  while (!done()) {
    if (step()) {
      if (m.draw(4) == 0) {  // lets other threads enqueue, or time out
        lock.unlock();
        std::this_thread::yield();
        lock.lock();
      }
      continue;
    }
    m.memory.hide();
    if (m.changed.wait_for(lock, std::chrono::seconds(30)) == std::cv_status::timeout && !done()) tell_heads();
  }
  lock.release();
  m.memory.hide();
}

// A few steps, for calls that query without waiting.
inline void run_some() {
  Machine& m = machine();
  for (std::size_t steps = m.draw(4); steps > 0; --steps) {
    if (!step()) break;
  }
  m.memory.hide();
  m.changed.notify_all();
}

// Adds `operation` after all operations of the stream.
inline void push(Stream& stream, Operation operation) {
  stream.operations.push_back(std::move(operation));
  ++stream.given;
  machine().changed.notify_all();
}

inline Operation record_of(std::shared_ptr<Moment> moment) {
  return {"record of an event", [moment = std::move(moment)] {
            moment->happened = true;
            return Progress::done;
          }};
}

inline Operation wait_of(std::shared_ptr<Moment> moment) {
  return {"wait for an event",
          [moment = std::move(moment)] { return moment->happened ? Progress::done : Progress::blocked; }};
}

inline void synchronize(const StreamPtr& stream) {
  run_until([&, until = stream->given] { return stream->finished >= until; });
}

inline void synchronize_device(int device) {
  std::vector<std::pair<StreamPtr, std::uint64_t>> until;
  for (const auto& stream : machine().streams) {
    if (stream->device == device) until.emplace_back(stream, stream->given);
  }
  run_until([&] {
    return std::all_of(until.begin(), until.end(), [](const auto& of) { return of.first->finished >= of.second; });
  });
}

}  // namespace emulated
