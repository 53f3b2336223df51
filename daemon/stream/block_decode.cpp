// A block from its columns: docs/events.md has the format byte by byte, block_encode.cpp the way there.
#include <algorithm>

#include "daemon/stream/block.h"
#include "daemon/stream/block_blob.h"
#include "daemon/stream/block_numbers.h"
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
  bool ids(std::string_view bytes, std::vector<Detail*>& details);
  bool attributes(std::string_view bytes, DetailStore& store, std::vector<Detail*>& details);
  bool bodies(std::string_view bytes, std::vector<Detail*>& details);

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

bool Decoder::ids(std::string_view bytes, std::vector<Detail*>& details) {
  Reader in(bytes);
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > in.left() / 24) return false;
  const std::string_view table = in.rest().substr(0, count * 24);
  in = Reader(in.rest().substr(count * 24));
  std::uint64_t known = 0;
  const bool good = each(kHasIds, details, [&](Detail* detail) {
    const std::uint64_t number = in.varint();
    if (!in.ok() || number > known + 1 || (number == 1 && known == count)) return false;
    if (number == 0) return true;
    const std::uint64_t id = number == 1 ? known++ : known + 1 - number;
    if (detail != nullptr) {
      std::memcpy(detail->trace_id, table.data() + id * 24, 16);
      std::memcpy(&detail->span_id, table.data() + id * 24 + 16, 8);
    }
    return true;
  });
  return good && known == count && in.left() == 0;
}

bool Decoder::attributes(std::string_view bytes, DetailStore& store, std::vector<Detail*>& details) {
  Reader in(bytes);
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > in.left()) return false;
  store.sets().reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view set = in.string();
    if (!in.ok() || set.empty() || !well_formed_attributes(set)) return false;
    store.sets().push_back(set);
  }
  const bool good = each(kHasAttributes, details, [&](Detail* detail) {
    const std::uint64_t number = in.varint();
    if (!in.ok() || number > count) return false;
    if (number != 0 && detail != nullptr) {
      detail->set = static_cast<std::uint32_t>(number);
      detail->attributes = store.sets()[number - 1];
    }
    return true;
  });
  return good && in.left() == 0;
}

bool Decoder::bodies(std::string_view bytes, std::vector<Detail*>& details) {
  Reader in(bytes);
  std::vector<std::uint32_t> lengths;
  std::uint64_t total = 0;
  bool good = each(kHasBodies, details, [&](Detail*) {
    const std::uint64_t length = in.varint();
    total += length;
    if (!in.ok() || length > bytes.size() || total > bytes.size()) return false;
    lengths.push_back(static_cast<std::uint32_t>(length));
    return true;
  });
  if (!good || total != in.left()) return false;
  const char* at = in.rest().data();
  std::size_t next = 0;
  return each(kHasBodies, details, [&](Detail* detail) {
    const std::size_t length = lengths[next++];
    if (detail != nullptr) detail->body = {at, length};
    at += length;
    return true;
  });
}

}  // namespace

Result<Block> decode(const Columns& columns, std::uint32_t wanted, std::size_t rows, std::uint64_t sequence_base, const Matcher* pick) {
  Decoder decoder{.columns = columns, .sequence_base = sequence_base, .pick = pick, .columns_wanted = wanted};
  decoder.block.sequence_base = sequence_base;
  TRY(decoder.keys(rows));
  auto store = std::make_shared<DetailStore>();
  std::vector<Detail*> details;
  constexpr std::uint32_t kDetailColumns = column_bit(Column::Ids) | column_bit(Column::Sets) | column_bit(Column::Bodies);
  if ((wanted & kDetailColumns) != 0) {
    const std::size_t total = decoder.block.runs.empty() ? 0 : decoder.block.runs.back().end;
    details.reserve(total - decoder.block.samples);
    for (std::size_t i = decoder.block.samples; i < total; ++i) details.push_back(&store->fresh());
  }
  for (std::size_t i = static_cast<std::size_t>(Column::Times); i < kColumns; ++i) {
    const auto column = static_cast<Column>(i);
    if ((wanted & column_bit(column)) == 0 || column == Column::Grams) continue;
    ASSIGN(std::string bytes, open_blob(i, sequence_base, columns[i]));
    bool good = true;
    switch (column) {
      case Column::Times: good = decoder.times(bytes, 0, decoder.plain_runs); break;
      case Column::EventTimes: good = decoder.times(bytes, decoder.plain_runs, decoder.runs.size()); break;
      case Column::Sequences: good = decoder.sequences(bytes); break;
      case Column::Values: good = decoder.values(bytes, 0, decoder.plain_runs); break;
      case Column::EventValues: good = decoder.values(bytes, decoder.plain_runs, decoder.runs.size()); break;
      case Column::Severities: good = decoder.severities(bytes); break;
      case Column::Ids: good = decoder.ids(bytes, details); break;
      case Column::Sets: good = decoder.attributes(store->keep(std::move(bytes)), *store, details); break;
      case Column::Bodies: good = decoder.bodies(store->keep(std::move(bytes)), details); break;
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
