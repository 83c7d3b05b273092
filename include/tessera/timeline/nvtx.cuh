// A timeline's spans as NVTX ranges, which Nsight Systems shows above the kernels that the thread launched.
#pragma once

#include <nvtx3/nvToolsExt.h>

#include <tessera/timeline/timeline.hpp>
#include <tessera/timeline/trace_events.hpp>

namespace tessera {

namespace nvtx {

inline void push(const Span& span) { nvtxRangePushA(trace_events::title(span).c_str()); }
inline void pop() { nvtxRangePop(); }

}  // namespace nvtx

/// Timeline timeline(spans, nvtx_ranges()): the spans of the ranks' own threads are ranges too, each named as in the
/// file of trace events. What queues do belongs to no such thread, and is in the file alone. A range that nobody ends,
/// such as a forward behind the last step, stays open. Source: NVTX 3, nvtxRangePushA and nvtxRangePop.
inline LiveRanges nvtx_ranges() { return {nvtx::push, nvtx::pop}; }

}  // namespace tessera
