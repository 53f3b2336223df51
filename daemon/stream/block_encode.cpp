// A block's columns as bytes; docs/events.md has the format byte by byte, block_decode.cpp the way back. What frames each
// column is in block_blob.h, the numbers of a run in block_numbers.h, what a text scan looks at in grams.h.
#include "daemon/stream/block_encode.h"

#include <algorithm>
#include <bit>

#include "daemon/stream/block_numbers.h"
#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

// Bytes that both texts share at their begin, at most `limit`; it is at most the length of each.
std::size_t common_begin(std::string_view a, std::string_view b, std::size_t limit) {
  std::size_t at = 0;
  for (; at + 8 <= limit; at += 8) {
    if (const std::uint64_t difference = load64(a.data() + at) ^ load64(b.data() + at)) return at + static_cast<std::size_t>(std::countr_zero(difference)) / 8;
  }
  while (at < limit && a[at] == b[at]) ++at;
  return at;
}

std::size_t common_end(std::string_view a, std::string_view b, std::size_t limit) {
  std::size_t at = 0;
  const char *const a_end = a.data() + a.size(), *const b_end = b.data() + b.size();
  for (; at + 8 <= limit; at += 8) {
    if (const std::uint64_t difference = load64(a_end - at - 8) ^ load64(b_end - at - 8)) return at + static_cast<std::size_t>(std::countl_zero(difference)) / 8;
  }
  while (at < limit && a_end[-1 - static_cast<std::ptrdiff_t>(at)] == b_end[-1 - static_cast<std::ptrdiff_t>(at)]) ++at;
  return at;
}

constexpr std::size_t kCacheLineBytes = 64;
constexpr std::size_t kAhead = 8;  // rows whose ids and attributes are fetched before they are looked at: each is a miss of the cache

}  // namespace

// Its text too, if that is going to be looked at.
inline void Encoder::fetch_new(const AttributeList* list) const {
  if (list == nullptr || list_numbers_[list->number] != 0) return;
  for (std::size_t at = 0; at < list->coded.size(); at += kCacheLineBytes) __builtin_prefetch(list->coded.data() + at);
}

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
      for (std::size_t row = 0; row < rows.size(); ++row) {
        if (row + kAhead < rows.size() && rows[row + kAhead] != nullptr) __builtin_prefetch(rows[row + kAhead]->ids);
        to = write_varint(to, id_number(rows[row]));
      }
      return to;
    });
  }
  if ((head.flags & kHasAttributes) != 0) {
    append_with(list_rows_, numbers_max, [&](char* to) {
      for (std::size_t row = 0; row < rows.size(); ++row) {
        if (row + kAhead < rows.size() && rows[row + kAhead] != nullptr) __builtin_prefetch(rows[row + kAhead]->list);
        if (row + kAhead / 2 < rows.size() && rows[row + kAhead / 2] != nullptr) fetch_new(rows[row + kAhead / 2]->list);
        to = write_varint(to, list_number(rows[row]));
      }
      return to;
    });
  }
  if ((head.flags & kHasBodies) != 0) texts_.add(rows);
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
    put_list(detail->list->coded);
  }
  return number;
}


// Lists that follow each other are of the same run and differ in little: only that is written.
void Encoder::put_list(std::string_view list) {
  const std::size_t both = std::min(list.size(), last_list_.size());
  const std::size_t begin = common_begin(list, last_list_, both), end = common_end(list, last_list_, both - begin);
  put_varint(list_table_, begin);
  put_varint(list_table_, end);
  put_string(list_table_, list.substr(begin, list.size() - begin - end));
  last_list_ = list;
}

void Encoder::clear(const Block& block) {
  for (std::string& bytes : plain_) bytes.clear();
  for (std::string* bytes : {&list_rows_, &list_table_}) bytes->clear();
  last_list_ = {};
  id_numbers_.assign(block.store == nullptr ? 1 : block.store->ids_count() + 1, 0);
  list_numbers_.assign(block.store == nullptr ? 1 : block.store->list_count() + 1, 0);
  ids_ = lists_ = 0;
  texts_.clear();
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
  append_with(plain(Column::Sequences), block.sequences.size() * kVarintBytesMax, [&](char* to) {
    std::int64_t last = 0;
    for (const std::uint32_t sequence : block.sequences) {
      to = write_varint(to, zigzag(std::int64_t{sequence} - last));
      last = sequence;
    }
    return to;
  });
  put_varint(plain(Column::Sets), lists_);
  plain(Column::Sets).append(list_table_).append(list_rows_);
  texts_.put(plain(Column::Bodies), plain(Column::Grams));
  Columns columns;
  for (std::size_t i = 0; i < kColumns; ++i) columns[i] = seal_blob(compressor_, i, block.sequence_base, plain_[i]);
  return columns;
}

Columns encode(const Block& block) { return Encoder().encode(block); }

}  // namespace culprit::stream
