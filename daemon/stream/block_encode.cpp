// A block's columns as bytes; docs/events.md has the format byte by byte, block_decode.cpp the way back. What frames each
// column is in block_blob.h, the numbers of a run in block_numbers.h, what a text scan looks at in grams.h.
#include "daemon/stream/block_encode.h"

#include <algorithm>

#include "daemon/stream/block_numbers.h"
#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kAhead = 8;  // rows whose texts are fetched before they are copied: each is a miss or two of the cache
constexpr std::size_t kCacheLineBytes = 64;

}  // namespace

// What the rows of a run behind the samples have. All columns of them are written run by run: its details, which lie
// in order of time among those of all others, are fetched into the cache once.
RunHead Encoder::details(const Block& block, const Block::Run& run) {
  const std::size_t begin = run.begin - block.samples, end = run.end - block.samples;
  for (std::size_t row = begin; row < end; ++row) __builtin_prefetch(block.details[row]);
  RunHead head{.severity = block.severities[begin]};
  for (std::size_t row = begin; row < end; ++row) {
    if (block.severities[row] != head.severity) head.severity = kSeverityMixed;
    const Detail* const detail = block.details[row];
    if (detail == nullptr) continue;
    head.flags |= static_cast<std::uint8_t>((detail->ids != nullptr ? kHasIds : 0) | (detail->list != nullptr ? kHasAttributes : 0) |
                                            (detail->body_bytes == 0 ? 0 : kHasBodies));
  }
  const std::span rows(block.details.data() + begin, end - begin);
  const std::size_t numbers_max = rows.size() * kVarintBytesMax;
  if ((head.flags & kHasIds) != 0) {
    append_with(plain(Column::IdRows), numbers_max, [&](char* to) {
      for (const Detail* detail : rows) to = write_varint(to, id_number(detail));
      return to;
    });
  }
  if ((head.flags & kHasAttributes) != 0) {
    append_with(list_rows_, numbers_max, [&](char* to) {
      for (std::size_t row = 0; row < rows.size(); ++row) {
        if (row + kAhead < rows.size() && rows[row + kAhead] != nullptr) __builtin_prefetch(rows[row + kAhead]->list);
        to = write_varint(to, list_number(rows[row]));
      }
      return to;
    });
  }
  if ((head.flags & kHasBodies) != 0) {
    append_with(body_lengths_, numbers_max, [&](char* to) {
      for (const Detail* detail : rows) to = write_varint(to, detail == nullptr ? 0 : detail->body_bytes);
      return to;
    });
    std::string& bodies = plain(Column::Bodies);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      if (row + kAhead < rows.size() && rows[row + kAhead] != nullptr) {
        const char* const next = rows[row + kAhead]->body_at;
        for (std::size_t ahead = 0; ahead < 3; ++ahead) __builtin_prefetch(next + ahead * kCacheLineBytes);
      }
      if (rows[row] == nullptr) continue;
      bodies.append(rows[row]->body());
      grams_.add(rows[row]->body());
    }
  }
  if (head.severity == kSeverityMixed) {
    plain(Column::Severities).append(reinterpret_cast<const char*>(block.severities.data() + begin), end - begin);
  }
  return head;
}

// Ids of a request stand at its span and at its log lines: each once, then a number a row (0 = none, 1 = the next of the
// ids, else how long ago it was that).
std::uint64_t Encoder::id_number(const Detail* detail) {
  if (detail == nullptr || detail->ids == nullptr) return 0;
  std::uint32_t& number = id_numbers_[detail->ids->number];
  if (number != 0) return 2 + ids_ - number;
  number = ++ids_;
  for (const std::uint64_t part : {detail->ids->trace[0], detail->ids->trace[1], detail->ids->span}) put_fixed64(plain(Column::Ids), part);
  return 1;
}

std::uint64_t Encoder::list_number(const Detail* detail) {
  if (detail == nullptr || detail->list == nullptr) return 0;
  std::uint32_t& number = list_numbers_[detail->list->number];
  if (number == 0) {
    number = ++lists_;
    put_string(list_table_, detail->list->coded);
  }
  return number;
}

void Encoder::clear(const Block& block) {
  for (std::string& bytes : plain_) bytes.clear();
  for (std::string* bytes : {&list_rows_, &list_table_, &body_lengths_}) bytes->clear();
  id_numbers_.assign(block.store == nullptr ? 1 : block.store->ids_count() + 1, 0);
  list_numbers_.assign(block.store == nullptr ? 1 : block.store->list_count() + 1, 0);
  ids_ = lists_ = 0;
  grams_.clear();
}

void Encoder::put_keys(const Block& block, const std::vector<RunHead>& heads) {
  std::string& keys = plain(Column::Keys);
  put_varint(keys, block.keys.size());
  for (const Key& key : block.keys) {
    keys.push_back(static_cast<char>(key.kind));
    put_string(keys, key.entity);
    put_string(keys, key.name);
  }
  put_varint(keys, block.runs.size());
  put_varint(keys, block.plain_runs);
  for (std::size_t i = 0; i < block.runs.size(); ++i) {
    put_varint(keys, block.runs[i].key);
    put_varint(keys, block.runs[i].end - block.runs[i].begin);
    put_varint(keys, heads[i].times);
    put_varint(keys, heads[i].values);
    if (i < block.plain_runs) continue;
    keys.push_back(static_cast<char>(heads[i].severity));
    keys.push_back(static_cast<char>(heads[i].flags));
  }
}

Columns Encoder::encode(const Block& block) {
  clear(block);
  std::vector<RunHead> heads(block.runs.size());
  const std::int64_t base = block.times.empty() ? 0 : *std::min_element(block.times.begin(), block.times.end());
  put_fixed64(plain(Column::Times), static_cast<std::uint64_t>(base));
  put_fixed64(plain(Column::EventTimes), static_cast<std::uint64_t>(base));
  for (std::size_t i = 0; i < block.runs.size(); ++i) {
    const Block::Run& run = block.runs[i];
    const bool is_plain = i < block.plain_runs;
    if (!is_plain) heads[i] = details(block, run);
    std::string& times = plain(is_plain ? Column::Times : Column::EventTimes);
    std::string& values = plain(is_plain ? Column::Values : Column::EventValues);
    const std::size_t times_before = times.size(), values_before = values.size();
    encode_times(std::span(block.times).subspan(run.begin, run.end - run.begin), base, is_plain, times);
    encode_values(std::span(block.values).subspan(run.begin, run.end - run.begin), values);
    heads[i].times = times.size() - times_before;
    heads[i].values = values.size() - values_before;
  }
  put_keys(block, heads);
  std::int64_t last = 0;
  for (const std::uint32_t sequence : block.sequences) {
    put_signed(plain(Column::Sequences), std::int64_t{sequence} - last);
    last = sequence;
  }
  put_varint(plain(Column::Sets), lists_);
  plain(Column::Sets).append(list_table_).append(list_rows_);
  std::string& bodies = plain(Column::Bodies);
  grams_.put(bodies.size(), plain(Column::Grams));
  bodies.append(body_lengths_);
  put_fixed64(bodies, body_lengths_.size());
  Columns columns;
  for (std::size_t i = 0; i < kColumns; ++i) columns[i] = seal_blob(compressor_, i, block.sequence_base, plain_[i]);
  return columns;
}

Columns encode(const Block& block) { return Encoder().encode(block); }

}  // namespace culprit::stream
