// Shows a timeline's spans as NVTX ranges in Nsight Systems, above the kernels that the thread launched.
#pragma once

#include <nvtx3/nvToolsExt.h>

#include <tessera/timeline/timeline.hpp>
#include <tessera/timeline/trace_events.hpp>

namespace tessera {

namespace nvtx {

inline void push(const Span& span) { nvtxRangePushA(trace_events::title(span).c_str()); }
inline void pop() { nvtxRangePop(); }

}  // namespace nvtx

/// Use: Timeline timeline(spans, nvtx_ranges()). The spans of the ranks' own threads become NVTX ranges with the names
/// of the trace-event file. Spans of queues belong to no thread and appear only in the file. A range without an end,
/// such as a forward after the last step, stays open. Source: NVTX 3, nvtxRangePushA and nvtxRangePop.
inline LiveRanges nvtx_ranges() { return {nvtx::push, nvtx::pop}; }

}  // namespace tessera
