// The folder of a recorded case and the file of labels: an error with its place, or a case that can be ranked.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/explain/learn/labelled.h"
#include "daemon/explain/recorded/read_case.h"
#include "tests/fuzz/folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::explain;
  static culprit::fuzz::Folder folder;
  static const std::set<std::string, std::less<>> kFiles = {"case.json", "metrics.csv", "edges.csv", "traces.csv", "logs.jsonl", "changes.jsonl", "topology.csv",
      "cases.jsonl", "truth.jsonl"};
  folder.fill({reinterpret_cast<const char*>(data), size}, kFiles);
  if (const auto read = read_case(folder.path()); !read && read.error().message.empty()) abort();
  std::size_t cases = 0;
  (void)read_case_lines(folder.path() / "cases.jsonl", [&](RecordedCase&&) -> culprit::Result<void> {
    ++cases;
    return {};
  });
  (void)read_labels(folder.path() / "truth.jsonl");
  return 0;
}
