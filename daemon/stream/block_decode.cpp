// A block from its columns: docs/events.md has the format byte by byte, block_encode.cpp the way there.
#include <algorithm>

#include "daemon/stream/block.h"
#include "daemon/stream/block_blob.h"
#include "daemon/stream/block_numbers.h"
#include "daemon/stream/block_texts.h"
#include "daemon/stream/bytes.h"
#include "daemon/stream/grams.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kKindMax = static_cast<std::size_t>(Kind::Alert);

struct Decoder {
  const Columns& columns;
  const std::uint64_t sequence_base;
  const Matcher* pick;
  const std::uint32_t columns_wanted;
  Block block = {};
  // Of every run, also those that are left out.
  std::vector<Block::Run> runs = {};
  std::vector<RunHead> heads = {};
  std::vector<bool> wanted = {};
  std::size_t plain_runs = 0;

  Result<void> keys(std::size_t rows);
  bool times(std::string_view bytes, std::size_t first, std::size_t last);   // of runs [first, last)
  bool values(std::string_view bytes, std::size_t first, std::size_t last);
  bool sequences(std::string_view bytes);
  bool severities(std::string_view bytes);
  bool ids(std::string_view table, std::string_view rows, DetailStore& store, std::vector<Detail*>& details);
  bool attributes(std::string_view bytes, DetailStore& store, std::vector<Detail*>& details);
  bool bodies(std::string_view bytes, DetailStore& store, std::span<Detail* const> details);

  // Calls visit(detail or null if the run is left out) for each row that has this flag, until it returns false.
  template <typename Visit>
  bool each(unsigned flag, std::vector<Detail*>& details, Visit&& visit) {
    std::size_t next = 0;
    for (std::size_t i = plain_runs; i < runs.size(); ++i) {
      const std::size_t rows = runs[i].end - runs[i].begin;
      if ((heads[i].flags & flag) != 0) {
        for (std::size_t row = 0; row < rows; ++row) {
          if (!visit(wanted[i] ? details[next + row] : nullptr)) return false;
        }
      }
      if (wanted[i]) next += rows;
    }
    return true;
  }
};

Result<void> Decoder::keys(std::size_t rows) {
  constexpr auto kColumn = static_cast<std::size_t>(Column::Keys);
  ASSIGN(const std::string bytes, open_blob(kColumn, sequence_base, columns[kColumn]));
  Reader in(bytes);
  const auto bad = [&] { return corrupt(kColumn, in.position()); };
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > in.left() / 3) return bad();
  block.keys.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint8_t kind = in.byte();
    const std::string_view entity = in.string();
    const std::string_view name = in.string();
    if (!in.ok() || kind < 1 || kind > kKindMax) return bad();
    block.keys.push_back({std::string(entity), std::string(name), static_cast<Kind>(kind)});
  }
  const std::uint64_t run_count = in.varint();
  plain_runs = in.varint();
  if (!in.ok() || run_count > in.left() / 4 || plain_runs > run_count) return bad();
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < run_count; ++i) {
    const std::uint64_t key = in.varint();
    const std::uint64_t length = in.varint();
    RunHead head{.times = in.varint(), .values = in.varint()};
    if (i >= plain_runs) {
      head.severity = in.byte();
      head.flags = in.byte();
    }
    if (!in.ok() || key >= count || length == 0 || length > rows - total || head.flags > 7) return bad();
    const auto begin = static_cast<std::uint32_t>(total);
    total += length;
    runs.push_back({static_cast<std::uint32_t>(key), begin, static_cast<std::uint32_t>(total)});
    heads.push_back(head);
  }
  if (total != rows || in.left() != 0) return bad();
  std::vector<bool> matching(count, true);
  if (pick != nullptr) {
    for (std::size_t i = 0; i < count; ++i) matching[i] = pick->key(block.keys[i]);
  }
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    wanted.push_back(matching[runs[i].key] && (columns_wanted & column_bit(i < plain_runs ? Column::Times : Column::EventTimes)) != 0);
    if (!wanted[i]) continue;
    const std::uint32_t length = runs[i].end - runs[i].begin;
    block.runs.push_back({runs[i].key, next, next + length});
    next += length;
    if (i < plain_runs) {
      ++block.plain_runs;
      block.samples += length;
    }
  }
  return {};
}

bool Decoder::times(std::string_view bytes, std::size_t first, std::size_t last) {
  Reader in(bytes);
  const auto base = static_cast<std::int64_t>(in.fixed64());
  std::string_view rest = in.rest();
  block.times.reserve(block.runs.empty() ? 0 : block.runs.back().end);
  for (std::size_t i = first; i < last; ++i) {
    const std::uint32_t length = runs[i].end - runs[i].begin;
    if (heads[i].times > rest.size() || heads[i].times < length) return false;  // each takes a byte or more
    if (wanted[i] && !decode_times(rest.substr(0, heads[i].times), length, base, i < plain_runs, block.times)) return false;
    rest.remove_prefix(heads[i].times);
  }
  return in.ok() && rest.empty();
}

bool Decoder::values(std::string_view bytes, std::size_t first, std::size_t last) {
  block.values.reserve(block.runs.empty() ? 0 : block.runs.back().end);
  for (std::size_t i = first; i < last; ++i) {
    if (heads[i].values > bytes.size()) return false;
    if (wanted[i] && !decode_values(bytes.substr(0, heads[i].values), runs[i].end - runs[i].begin, block.values)) return false;
    bytes.remove_prefix(heads[i].values);
  }
  return bytes.empty();
}

bool Decoder::sequences(std::string_view bytes) {
  if (bytes.empty()) return true;  // no two rows of one time
  Reader in(bytes);
  block.sequences.reserve(block.runs.empty() ? 0 : block.runs.back().end);
  std::int64_t last = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    for (std::uint32_t row = runs[i].begin; row < runs[i].end; ++row) {
      last = wrapping_add(last, in.signed_varint());
      if (last < 0 || last > UINT32_MAX) return false;
      if (wanted[i]) block.sequences.push_back(static_cast<std::uint32_t>(last));
    }
  }
  return in.ok() && in.left() == 0;
}

bool Decoder::severities(std::string_view bytes) {
  for (std::size_t i = plain_runs; i < runs.size(); ++i) {
    const std::size_t length = runs[i].end - runs[i].begin;
    const bool mixed = heads[i].severity == kSeverityMixed;
    if (mixed && length > bytes.size()) return false;
    for (std::size_t row = 0; wanted[i] && row < length; ++row) {
      block.severities.push_back(mixed ? static_cast<std::uint8_t>(bytes[row]) : heads[i].severity);
    }
    if (mixed) bytes.remove_prefix(length);
  }
  return bytes.empty();
}

bool Decoder::ids(std::string_view table, std::string_view rows, DetailStore& store, std::vector<Detail*>& details) {
  if (table.size() % kIdsBytes != 0) return false;
  std::vector<const Ids*> known;
  Reader in(rows);
  const bool good = each(kHasIds, details, [&](Detail* detail) {
    const std::uint64_t number = in.varint();
    if (!in.ok() || number > known.size() + 1 || (number == 1 && table.empty())) return false;
    if (number == 0) return true;
    if (number == 1) {
      Ids ids;
      std::memcpy(ids.trace, table.data(), sizeof ids.trace);
      std::memcpy(&ids.span, table.data() + sizeof ids.trace, sizeof ids.span);
      table.remove_prefix(kIdsBytes);
      known.push_back(store.add_ids(ids));
    }
    if (detail != nullptr) detail->ids = number == 1 ? known.back() : known[known.size() + 1 - number];
    return true;
  });
  return good && table.empty() && in.left() == 0;
}

bool Decoder::attributes(std::string_view bytes, DetailStore& store, std::vector<Detail*>& details) {
  Reader in(bytes);
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > in.left()) return false;
  std::string_view last;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t begin = in.varint(), end = in.varint();
    const std::string_view own = in.string();
    if (!in.ok() || begin > last.size() || end > last.size() - begin) return false;
    last = store.keep_joined(last.substr(0, begin), own, last.substr(last.size() - end));
    if (last.empty() || !well_formed_attributes(last)) return false;
    store.add_list(last);
  }
  const bool good = each(kHasAttributes, details, [&](Detail* detail) {
    const std::uint64_t number = in.varint();
    if (!in.ok() || number > count) return false;
    if (number != 0 && detail != nullptr) detail->list = &store.list(number);
    return true;
  });
  return good && in.left() == 0;
}

bool Decoder::bodies(std::string_view bytes, DetailStore& store, std::span<Detail* const> details) {
  TextDecoder texts;
  if (!texts.open(bytes)) return false;
  for (std::size_t i = plain_runs; i < runs.size(); ++i) {
    const std::size_t rows = runs[i].end - runs[i].begin;
    if ((heads[i].flags & kHasBodies) != 0 && !(wanted[i] ? texts.read(details.first(rows), store) : texts.skip(rows))) return false;
    if (wanted[i]) details = details.subspan(rows);
  }
  return texts.at_end();
}

}  // namespace

Result<Block> decode(const Columns& columns, std::uint32_t wanted, std::size_t rows, std::uint64_t sequence_base, const Matcher* pick) {
  if ((wanted & kIdColumns) != 0) wanted |= kIdColumns;
  Decoder decoder{.columns = columns, .sequence_base = sequence_base, .pick = pick, .columns_wanted = wanted};
  decoder.block.sequence_base = sequence_base;
  TRY(decoder.keys(rows));
  auto store = std::make_shared<DetailStore>();
  std::vector<Detail*> details;
  constexpr std::uint32_t kDetailColumns = kIdColumns | column_bit(Column::Sets) | column_bit(Column::Bodies);
  if ((wanted & kDetailColumns) != 0) {
    const std::size_t total = decoder.block.runs.empty() ? 0 : decoder.block.runs.back().end;
    details.reserve(total - decoder.block.samples);
    for (std::size_t i = decoder.block.samples; i < total; ++i) details.push_back(&store->fresh());
  }
  for (std::size_t i = static_cast<std::size_t>(Column::Times); i < kColumns; ++i) {
    const auto column = static_cast<Column>(i);
    if ((wanted & column_bit(column)) == 0 || column == Column::Grams || column == Column::IdRows) continue;  // the latter with the ids
    ASSIGN(std::string bytes, open_blob(i, sequence_base, columns[i]));
    bool good = true;
    switch (column) {
      case Column::Times: good = decoder.times(bytes, 0, decoder.plain_runs); break;
      case Column::EventTimes: good = decoder.times(bytes, decoder.plain_runs, decoder.runs.size()); break;
      case Column::Sequences: good = decoder.sequences(bytes); break;
      case Column::Values: good = decoder.values(bytes, 0, decoder.plain_runs); break;
      case Column::EventValues: good = decoder.values(bytes, decoder.plain_runs, decoder.runs.size()); break;
      case Column::Severities: good = decoder.severities(bytes); break;
      case Column::Ids: {
        ASSIGN(const std::string rows_of, open_blob(i + 1, sequence_base, columns[i + 1]));
        good = decoder.ids(bytes, rows_of, *store, details);
        break;
      }
      case Column::Sets: good = decoder.attributes(store->keep(std::move(bytes)), *store, details); break;
      case Column::Bodies: good = decoder.bodies(store->keep(std::move(bytes)), *store, details); break;
      default: break;
    }
    if (!good) return corrupt(i, 0);
  }
  decoder.block.details.assign(details.begin(), details.end());
  decoder.block.store = std::move(store);
  return std::move(decoder.block);
}

Result<bool> may_hold(const std::string& grams, std::uint64_t sequence_base, std::span<const std::string_view> texts) {
  constexpr auto kColumn = static_cast<std::size_t>(Column::Grams);
  ASSIGN(const std::string bits, open_blob(kColumn, sequence_base, grams));
  if (!well_formed_grams(bits)) return corrupt(kColumn, 0);
  return std::all_of(texts.begin(), texts.end(), [&](std::string_view text) { return may_hold_grams(bits, text); });
}

}  // namespace culprit::stream
