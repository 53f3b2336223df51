// Encoder: a block's columns as bytes. It keeps its buffers (some megabytes) from one block to the next, since fresh
// memory costs a page fault for each four kilobytes. One thread at a time.
#pragma once

#include <vector>

#include "daemon/stream/block.h"
#include "daemon/stream/block_blob.h"
#include "daemon/stream/grams.h"

namespace culprit::stream {

class Encoder {
 public:
  Columns encode(const Block& block);

 private:
  std::string& plain(Column column) { return plain_[static_cast<std::size_t>(column)]; }
  void clear(const Block& block);
  RunHead details(const Block& block, const Block::Run& run);
  void put_ids(const Detail* detail);
  void put_set(const Detail* detail);
  void put_keys(const Block& block, const std::vector<RunHead>& heads);

  Compressor compressor_;
  Columns plain_;  // before compression
  std::vector<const Detail*> ids_;
  HashIndex id_index_;
  std::string id_table_, id_rows_;
  std::vector<std::uint32_t> set_numbers_;  // of the block's attribute lists, by their number in its store
  std::uint32_t sets_ = 0;
  std::string set_table_, set_rows_;
  std::string bodies_;
  Grams grams_;
};

}  // namespace culprit::stream
