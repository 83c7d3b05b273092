// NVTX needs no device. A profiler replaces its functions; in this file the test acts as the profiler.
#include <doctest/doctest.h>

#include <string>

#include <tessera/timeline/nvtx.cuh>

namespace {

std::string told;

int push(const char* name) {
  told += std::string("<") + name;
  return 0;
}
int pop() {
  told += ">";
  return 0;
}

int take_over(NvtxGetExportTableFunc_t export_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(export_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size)) return 0;
  *table[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
  *table[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  return 1;
}

}  // namespace

TEST_CASE("spans are NVTX ranges with the same begin and end, and are recorded on the timeline too") {
  InitializeInjectionNvtx2_fnptr = take_over;  // NVTX looks here once for a profiler that is linked in
  tessera::Timeline timeline(4, tessera::nvtx_ranges());
  tessera::Track& track = timeline.open(0, "compute");
  {
    const tessera::Timed step(&track, {.kind = "step", .index = 3});
    const tessera::Timed wait(&track, {.kind = "wait", .name = "gradients of bucket", .index = 1});
    CHECK(told == "<step 3<wait: gradients of bucket 1");
  }
  CHECK(told == "<step 3<wait: gradients of bucket 1>>");
  REQUIRE(track.size() == 2);
  CHECK(std::string(track[0].kind) == "wait");
}
