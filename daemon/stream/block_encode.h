// Encoder: a block's columns as bytes. It keeps its buffers (some megabytes) from one block to the next, since fresh
// memory costs a page fault for each four kilobytes. One thread at a time.
#pragma once

#include <vector>

#include "daemon/stream/block.h"
#include "daemon/stream/block_blob.h"
#include "daemon/stream/block_texts.h"

namespace culprit::stream {

class Encoder {
 public:
  Columns encode(const Block& block);

 private:
  std::string& plain(Column column) { return plain_[static_cast<std::size_t>(column)]; }
  void clear(const Block& block);
  RunHead details(const Block& block, const Block::Run& run);
  std::uint64_t id_number(const Detail* detail);    // what stands in the row; the ids themselves, if they are new
  std::uint64_t list_number(const Detail* detail);
  [[gnu::always_inline]] void fetch_new(const AttributeList* list) const;  // see HashIndex::prefetch()
  void put_list(std::string_view list);
  void put_keys(const Block& block, const std::vector<RunHead>& heads);

  Compressor compressor_;
  Columns plain_;  // before compression
  std::vector<std::uint32_t> id_numbers_, list_numbers_;  // of what the block has so far, by its number in the block's store
  std::uint32_t ids_ = 0, lists_ = 0;
  std::string list_table_, list_rows_;
  std::string_view last_list_;  // of the table
  TextEncoder texts_;
};

}  // namespace culprit::stream
