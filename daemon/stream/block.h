// Block: sealed rows, immutable. Plain samples (nothing but entity, name, time, value) come first, sorted by
// key, time and sequence, so that each series is one run; all other rows follow, sorted by time and sequence.
//
//   rows:     | run of key 0 | run of key 1 | ... | events by time ......... |
//   columns:  times, values and sequence over all rows; keys, kinds, severities and details over the events
//
// On disk each column is a blob of its own (encode, decode), so that a reader takes only those it needs.
#pragma once

#include <array>
#include <memory>

#include "daemon/stream/query.h"

namespace culprit::stream {

// What few samples and most other events have.
struct Detail {
  std::uint64_t trace_id[2] = {0, 0};
  std::uint64_t span_id = 0;
  Attributes attributes;
  std::string body;

  std::size_t bytes() const;  // in memory, roughly
};
using DetailPtr = std::shared_ptr<const Detail>;  // shared by the active rows, their block and running queries

// One row as the active rows keep it.
struct Row {
  std::int64_t time_ns;
  std::uint64_t sequence;  // order of append
  double value;
  std::uint32_t key;
  Kind kind;
  std::uint8_t severity;
  DetailPtr detail;  // may be null

  bool plain_sample() const { return kind == Kind::Sample && severity == 0 && detail == nullptr; }
};

// One match of a query. Borrows from the rows or the block that it was found in.
struct Hit {
  std::int64_t time_ns;
  std::uint64_t sequence;
  double value;
  const Key* key;
  const Detail* detail;  // may be null
  Kind kind;
  std::uint8_t severity;

  bool operator<(const Hit& other) const {
    return time_ns != other.time_ns ? time_ns < other.time_ns : sequence < other.sequence;
  }
  Event event() const;
};

enum class Column : std::uint8_t { Keys, Times, Sequences, Values, Events, Details };
inline constexpr std::size_t kColumns = 6;
inline constexpr std::uint32_t kAllColumns = (1u << kColumns) - 1;
inline constexpr std::uint32_t column_bit(Column column) { return 1u << static_cast<std::uint32_t>(column); }
using Columns = std::array<std::string, kColumns>;

// Bit 0 of a block's kinds, which no kind uses: some samples are among the events.
inline constexpr std::uint32_t kDetailedSamples = 1;

struct Block {
  struct Run {
    std::uint32_t key, begin, end;  // rows [begin, end)
  };
  std::vector<Key> keys;
  std::vector<Run> runs;
  std::size_t samples = 0;  // rows in runs
  std::vector<std::int64_t> times;
  std::uint64_t sequence_base = 0;
  std::vector<std::uint32_t> sequences;  // from the base
  std::vector<double> values;
  std::vector<std::uint32_t> event_keys;
  std::vector<Kind> event_kinds;
  std::vector<std::uint8_t> event_severities;
  std::vector<DetailPtr> details;  // of the events

  std::size_t rows() const { return times.size(); }
  std::size_t bytes() const;
  std::uint32_t kinds() const;

  std::uint64_t sequence(std::size_t row) const {  // 0 without that column
    return sequences.empty() ? 0 : sequence_base + sequences[row];
  }
  // Adds every match, in no particular order; `shift_ns` is added to the times first. Needs all columns, but
  // Details only if the filter does or if the hits' details are used, Sequences only if their order is.
  void collect(const Matcher& matcher, std::int64_t shift_ns, std::vector<Hit>& out) const;
};

Block seal(std::span<const Row> rows, const KeyTable& keys);  // at most 2^32 rows
Columns encode(const Block& block);
// Decodes the columns of `wanted` (Keys is always needed). Corrupt: names the column and the byte.
Result<Block> decode(const Columns& columns, std::uint32_t wanted, std::size_t rows, std::uint64_t sequence_base);

// zstd with its checksum. Corrupt if the bytes are not what compress() gave.
std::string compress(std::string_view bytes);
Result<std::string> decompress(std::string_view bytes);

}  // namespace culprit::stream
