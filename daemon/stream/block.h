// Block: sealed rows, immutable, in runs of one key each. Plain samples (nothing but entity, name, time, value)
// come first, then all other rows; within a run rows are sorted by time and sequence.
//
//   rows:     | run of key 0 | run of key 1 | ... | run of key 7, with details | ...
//   columns:  times, values, sequences over all rows; severities, ids, attributes and bodies over the latter
//
// On disk each column is a blob of its own (encode, decode; docs/events.md has the bytes), so that a reader
// takes only the columns and decodes only the runs that it needs.
#pragma once

#include <array>
#include <memory>

#include "daemon/stream/bytes.h"
#include "daemon/stream/query.h"
#include "daemon/stream/rows.h"

namespace culprit::stream {

// Times and Values are those of the plain samples, EventTimes and EventValues those of all other rows.
enum class Column : std::uint8_t { Keys, Times, EventTimes, Sequences, Values, EventValues, Severities, Ids, IdRows, Sets, Bodies, Grams };
inline constexpr std::size_t kColumns = 12;
inline constexpr std::uint32_t kAllColumns = (1u << kColumns) - 1;
inline constexpr std::uint32_t column_bit(Column column) { return 1u << static_cast<std::uint32_t>(column); }
using Columns = std::array<std::string, kColumns>;
inline constexpr std::uint32_t kSampleColumns = column_bit(Column::Times) | column_bit(Column::Values);
inline constexpr std::uint32_t kEventColumns = column_bit(Column::EventTimes) | column_bit(Column::EventValues) | column_bit(Column::Severities) |
                                               column_bit(Column::Ids) | column_bit(Column::IdRows) | column_bit(Column::Sets) | column_bit(Column::Bodies);
inline constexpr std::uint32_t kIdColumns = column_bit(Column::Ids) | column_bit(Column::IdRows);  // one is of no use without the other
inline constexpr std::uint32_t kTimeColumns = column_bit(Column::Times) | column_bit(Column::EventTimes);
inline constexpr std::uint32_t kValueColumns = column_bit(Column::Values) | column_bit(Column::EventValues);

// Bit 0 of a block's kinds, which no kind uses: some samples have a severity or details.
inline constexpr std::uint32_t kDetailedSamples = 1;

struct Block {
  struct Run {
    std::uint32_t key, begin, end;  // rows [begin, end)
  };
  std::vector<Key> keys;
  std::vector<Run> runs;
  std::size_t plain_runs = 0;  // of runs
  std::size_t samples = 0;     // rows in plain runs
  std::vector<std::int64_t> times;
  std::uint64_t sequence_base = 0;
  std::vector<std::uint32_t> sequences;   // from the base: tells apart rows of one time. Empty if all are 0
  std::vector<double> values;
  std::vector<std::uint8_t> severities;   // of the rows behind the samples
  std::vector<const Detail*> details;     // of the same rows; may be null. Empty if no column of them was decoded
  std::shared_ptr<const DetailStore> store;  // of the details: shared with the active rows they come from

  std::size_t rows() const { return times.size(); }
  std::size_t bytes() const;
  std::uint32_t kinds() const;

  std::uint64_t sequence(std::size_t row) const { return sequences.empty() ? sequence_base : sequence_base + sequences[row]; }
  Hit hit(const Run& run, std::size_t row, std::int64_t shift_ns) const {
    const bool plain = row < samples;
    return {wrapping_add(times[row], shift_ns), sequence(row), values.empty() ? 0 : values[row], &keys[run.key],
            plain || details.empty() ? nullptr : details[row - samples], plain || severities.empty() ? std::uint8_t{kUnset} : severities[row - samples]};
  }
  // Rows [begin, end) of the run whose times, with `shift_ns` added, are in the matcher's window.
  std::pair<std::uint32_t, std::uint32_t> window(const Run& run, const Matcher& matcher, std::int64_t shift_ns) const;
  // Adds every match, in no particular order. Needs the columns of columns_for().
  void collect(const Matcher& matcher, std::int64_t shift_ns, std::vector<Hit>& out) const;
};

// The columns that decide what matches, and `also` for what is done with the matches.
std::uint32_t columns_for(const Matcher& matcher, std::uint32_t also);

// Rows in order of append, at most 2^32; `sequence_base` is the first one's.
Block seal(std::span<const Row> rows, const KeyTable& keys, std::shared_ptr<const DetailStore> store, std::uint64_t sequence_base);
Columns encode(const Block& block);
// Decodes the columns of `wanted` (Keys always), and of the runs only those whose key matches `pick` (all if
// null) and whose times are wanted: without Times no plain samples, without EventTimes nothing else. Corrupt: names the column and the byte.
Result<Block> decode(const Columns& columns, std::uint32_t wanted, std::size_t rows, std::uint64_t sequence_base,
                     const Matcher* pick = nullptr);

// One column's blob around its plain bytes (encode() does this for each).
std::string seal_column(std::size_t column, std::uint64_t sequence_base, std::string_view plain);

// Whether a block with this column of Grams may hold a body with all these texts (lower case).
Result<bool> may_hold(const std::string& grams, std::uint64_t sequence_base, std::span<const std::string_view> texts);

// Bits of entities and names, to leave out blocks that have none of those asked for.
std::string key_filter(const Block& block);
bool may_hold_key(std::string_view filter, const Matcher& matcher);

// zstd with its checksum. Corrupt if the bytes are not what compress() gave.
std::string compress(std::string_view bytes);
Result<std::string> decompress(std::string_view bytes);

// CRC-32 (ISO 3309, as zlib's), going on from `crc`.
std::uint32_t checksum(std::string_view bytes, std::uint32_t crc = 0);

}  // namespace culprit::stream
