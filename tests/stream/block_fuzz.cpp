// The block decoder takes any bytes as columns: damage is an error, what decodes can be looked at and coded again.
#include <cstdlib>

#include "daemon/stream/block.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::stream;
  if (size < 3) return 0;
  // Three bytes say how many rows and which columns; the rest is plain columns one after the other, with their lengths
  // in front, which are wrapped here as a writer would: otherwise a checksum would stop everything.
  const std::size_t rows = data[0] + std::size_t{1};
  const std::uint32_t wanted = (data[1] | std::uint32_t{data[2]} << 8) & kAllColumns;
  std::string_view rest(reinterpret_cast<const char*>(data) + 3, size - 3);
  Columns columns;
  for (std::size_t i = 0; i < kColumns; ++i) {
    std::size_t length = rest.empty() ? 0 : static_cast<unsigned char>(rest.front());
    if (!rest.empty()) rest.remove_prefix(1);
    if (i + 1 == kColumns || length > rest.size()) length = rest.size();
    columns[i] = seal_column(i, 7, rest.substr(0, length));
    rest.remove_prefix(length);
  }
  (void)may_hold(columns[kColumns - 1], 7, std::vector<std::string_view>{"text"});
  const auto block = decode(columns, wanted, rows, 7);
  if (!block) return 0;
  std::vector<Hit> hits;
  for (const std::uint32_t run_count = static_cast<std::uint32_t>(block->runs.size()); const Block::Run& run : block->runs) {
    if (run.end > block->rows() || run.begin >= run.end || run.key >= block->keys.size() || run_count > rows) std::abort();
    for (std::size_t row = run.begin; row < run.end; ++row) (void)block->hit(run, row, 0).event();
  }
  return 0;
}
