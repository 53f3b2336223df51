// A block's columns as bytes and back; docs/events.md has the format byte by byte. What frames each of them is in block_blob.h,
// the numbers of a run in block_numbers.h.
#include <algorithm>
#include <array>

#include "daemon/stream/block.h"
#include "daemon/stream/block_blob.h"
#include "daemon/stream/block_numbers.h"
#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kKindMax = static_cast<std::size_t>(Kind::Alert);
constexpr std::size_t kSeverityMixed = 255;
constexpr unsigned kHasIds = 1, kHasAttributes = 2, kHasBodies = 4;

// Four bytes of a body, in lower case, set one bit each.
constexpr unsigned kGramBitsMin = 10, kGramBitsMax = 17;  // log2
constexpr std::size_t kGramBytes = 4;

struct RunHead {
  std::uint64_t times = 0, values = 0;  // bytes of this run in those columns
  std::uint8_t severity = 0, flags = 0;
};

// ---- grams ----

constexpr std::array<std::uint8_t, 256> kLower = [] {
  std::array<std::uint8_t, 256> table{};
  for (std::size_t c = 0; c < table.size(); ++c) table[c] = static_cast<std::uint8_t>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return table;
}();

template <typename Visit>
void each_gram(std::string_view text, unsigned log2_bits, Visit&& visit) {
  if (text.size() < kGramBytes) return;
  const auto* at = reinterpret_cast<const std::uint8_t*>(text.data());
  const std::uint8_t* const end = at + text.size();
  std::uint32_t gram = 0;
  for (std::size_t i = 0; i + 1 < kGramBytes; ++i) gram = gram << 8 | kLower[*at++];
  const unsigned shift = 32 - log2_bits;
  for (; at < end; ++at) {
    gram = gram << 8 | kLower[*at];
    visit((gram * 0x9E3779B1u) >> shift);
  }
}

std::string encode_grams(const Block& block, std::size_t body_bytes) {
  unsigned log2_bits = kGramBitsMin;
  while (log2_bits < kGramBitsMax && (std::size_t{1} << log2_bits) < body_bytes) ++log2_bits;
  std::vector<std::uint8_t> seen(std::size_t{1} << log2_bits);  // a byte each while they are set: no bit is read to be written
  std::uint8_t* const flags = seen.data();
  for (const Detail* detail : block.details) {
    if (detail != nullptr) each_gram(detail->body, log2_bits, [flags](std::uint32_t bit) { flags[bit] = 1; });
  }
  std::string out(1 + seen.size() / 8, '\0');
  out[0] = static_cast<char>(log2_bits);
  for (std::size_t i = 0; i < seen.size(); i += 8) {
    unsigned byte = 0;
    for (unsigned bit = 0; bit < 8; ++bit) byte |= static_cast<unsigned>(flags[i + bit]) << bit;
    out[1 + i / 8] = static_cast<char>(byte);
  }
  return out;
}

// ---- the whole ----

// What the rows behind the samples have, run by run.
std::vector<RunHead> heads_of(const Block& block) {
  std::vector<RunHead> heads(block.runs.size());
  for (std::size_t i = block.plain_runs; i < heads.size(); ++i) {
    const Block::Run& run = block.runs[i];
    heads[i].severity = block.severities[run.begin - block.samples];
    for (std::size_t row = run.begin - block.samples; row < run.end - block.samples; ++row) {
      if (block.severities[row] != heads[i].severity) heads[i].severity = kSeverityMixed;
      const Detail* detail = block.details[row];
      if (detail == nullptr) continue;
      heads[i].flags |= static_cast<std::uint8_t>((detail->has_ids() ? kHasIds : 0) | (detail->set != 0 ? kHasAttributes : 0) |
                                                  (detail->body.empty() ? 0 : kHasBodies));
    }
  }
  return heads;
}

// Calls visit(detail or null) for each row of the runs that have this flag.
template <typename Visit>
void each_detail(const Block& block, const std::vector<RunHead>& heads, unsigned flag, Visit&& visit) {
  for (std::size_t i = block.plain_runs; i < heads.size(); ++i) {
    if ((heads[i].flags & flag) == 0) continue;
    for (std::size_t row = block.runs[i].begin - block.samples; row < block.runs[i].end - block.samples; ++row) visit(block.details[row]);
  }
}

// Ids of a request stand at its span and at its log lines: each once, then a number a row (0 = none).
std::string encode_ids(const Block& block, const std::vector<RunHead>& heads) {
  std::string table, rows;
  HashIndex index;
  std::vector<const Detail*> known;
  each_detail(block, heads, kHasIds, [&](const Detail* detail) {
    if (detail == nullptr || !detail->has_ids()) return put_varint(rows, 0);
    const std::string_view bytes(reinterpret_cast<const char*>(detail->trace_id), 16);
    const auto fresh = static_cast<std::uint32_t>(known.size());
    const std::uint32_t id = index.find_or_add(hash_bytes(bytes, table_seed() + detail->span_id), fresh, [&](std::uint32_t other) {
      return known[other]->trace_id[0] == detail->trace_id[0] && known[other]->trace_id[1] == detail->trace_id[1] && known[other]->span_id == detail->span_id;
    });
    if (id != fresh) return put_varint(rows, 1 + known.size() - id);  // how long ago it was new
    known.push_back(detail);
    table.append(bytes);
    put_fixed64(table, detail->span_id);
    put_varint(rows, 1);
  });
  std::string out;
  put_varint(out, known.size());
  return out + table + rows;
}

std::string encode_attributes(const Block& block, const std::vector<RunHead>& heads) {
  std::vector<std::uint32_t> numbers(block.store == nullptr ? 1 : block.store->set_count() + 1);
  std::uint32_t sets = 0;
  std::string table, rows;
  each_detail(block, heads, kHasAttributes, [&](const Detail* detail) {
    if (detail == nullptr || detail->set == 0) return put_varint(rows, 0);
    std::uint32_t& number = numbers[detail->set];
    if (number == 0) {
      number = ++sets;
      put_string(table, detail->attributes);
    }
    put_varint(rows, number);
  });
  std::string out;
  put_varint(out, sets);
  return out + table + rows;
}

std::string encode_bodies(const Block& block, const std::vector<RunHead>& heads, std::size_t& body_bytes) {
  std::string out, texts;
  each_detail(block, heads, kHasBodies, [&](const Detail* detail) {
    const std::string_view body = detail == nullptr ? std::string_view() : detail->body;
    put_varint(out, body.size());
    texts.append(body);
  });
  body_bytes = texts.size();
  return out + texts;
}

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

Columns encode(const Block& block) {
  std::vector<RunHead> heads = heads_of(block);
  std::array<std::string, kColumns> plain;
  const auto column = [&](Column which) -> std::string& { return plain[static_cast<std::size_t>(which)]; };
  const std::int64_t base = block.times.empty() ? 0 : *std::min_element(block.times.begin(), block.times.end());
  put_fixed64(column(Column::Times), static_cast<std::uint64_t>(base));
  put_fixed64(column(Column::EventTimes), static_cast<std::uint64_t>(base));
  for (std::size_t i = 0; i < block.runs.size(); ++i) {
    const Block::Run& run = block.runs[i];
    std::string& times = column(i < block.plain_runs ? Column::Times : Column::EventTimes);
    std::string& values = column(i < block.plain_runs ? Column::Values : Column::EventValues);
    const std::size_t times_before = times.size(), values_before = values.size();
    encode_times(std::span(block.times).subspan(run.begin, run.end - run.begin), base, i < block.plain_runs, times);
    encode_values(std::span(block.values).subspan(run.begin, run.end - run.begin), values);
    heads[i].times = times.size() - times_before;
    heads[i].values = values.size() - values_before;
    if (heads[i].severity != kSeverityMixed) continue;
    for (std::size_t row = run.begin; row < run.end; ++row) column(Column::Severities).push_back(static_cast<char>(block.severities[row - block.samples]));
  }
  std::string& keys = column(Column::Keys);
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
  std::int64_t last = 0;
  for (const std::uint32_t sequence : block.sequences) {
    put_signed(column(Column::Sequences), std::int64_t{sequence} - last);
    last = sequence;
  }
  column(Column::Ids) = encode_ids(block, heads);
  column(Column::Sets) = encode_attributes(block, heads);
  std::size_t body_bytes = 0;
  column(Column::Bodies) = encode_bodies(block, heads, body_bytes);
  column(Column::Grams) = encode_grams(block, body_bytes);
  Columns columns;
  Compressor compressor;
  for (std::size_t i = 0; i < kColumns; ++i) columns[i] = seal_blob(compressor, i, block.sequence_base, plain[i]);
  return columns;
}

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
    for (std::size_t i = decoder.block.samples; i < total; ++i) details.push_back(&store->details().emplace_back());
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
  const unsigned log2_bits = bits.empty() ? 0 : static_cast<unsigned char>(bits[0]);
  if (log2_bits < kGramBitsMin || log2_bits > kGramBitsMax || bits.size() != 1 + (std::size_t{1} << log2_bits) / 8) return corrupt(kColumn, 0);
  bool all = true;
  for (const std::string_view text : texts) {
    each_gram(text, log2_bits, [&](std::uint32_t bit) { all = all && (static_cast<unsigned char>(bits[1 + bit / 8]) >> (bit % 8) & 1u) != 0; });
  }
  return all;
}

}  // namespace culprit::stream
