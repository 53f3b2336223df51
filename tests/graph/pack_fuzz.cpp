// Any bytes are a pack or an error, never a crash, a hang or unbounded memory.
#include <cstdint>
#include <string>
#include <vector>

#include "graph/knowledge.h"
#include "graph/pack.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::graph;
  auto pack = parse_pack({"fuzz.yaml", std::string(reinterpret_cast<const char*>(data), size)});
  if (!pack) return 0;
  std::vector<Pack> packs;
  packs.push_back(std::move(*pack));
  if (const auto known = Knowledge::from_packs(std::move(packs))) (void)(*known)->match("any line of text");
  return 0;
}
