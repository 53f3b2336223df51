#include "daemon/stream/block.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "daemon/base/handle.h"
#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr int kZstdLevel = 1;                          // the stream is written once and rarely read
constexpr std::size_t kColumnBytesMax = 1u << 30;      // decompressed; more is damage
constexpr std::size_t kFormat = 16;                    // a blob's first byte: 16 + column; 32 + column would be
                                                       // the next format
constexpr std::size_t kKindMax = static_cast<std::size_t>(Kind::Alert);

using ZstdContext = Handle<ZSTD_CCtx, ZSTD_freeCCtx>;

constexpr std::string_view kColumnNames[kColumns] = {"keys", "times", "sequences", "values", "events", "details"};

std::unexpected<Error> corrupt(Column column, const Reader& in) {
  return fail(Code::Corrupt, fmt::format("column '{}' damaged at byte {}",
                                         kColumnNames[static_cast<std::size_t>(column)], in.position()));
}

// The change of the change, as a zigzag varint: zero for samples at a steady pace.
template <typename T>
std::string encode_integers(const std::vector<T>& values) {
  std::string out;
  std::int64_t last = 0, step = 0;
  for (const T value : values) {
    const std::int64_t next = wrapping_sub(static_cast<std::int64_t>(value), last);
    put_signed(out, wrapping_sub(next, step));
    last = static_cast<std::int64_t>(value);
    step = next;
  }
  return out;
}

template <typename T>
bool decode_integers(Reader& in, std::size_t rows, std::vector<T>& values) {
  if (rows > in.left()) return false;  // each takes a byte or more
  values.reserve(rows);
  std::int64_t last = 0, step = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    step = wrapping_add(step, in.signed_varint());
    last = wrapping_add(last, step);
    if (std::int64_t{static_cast<T>(last)} != last) return false;
    values.push_back(static_cast<T>(last));
  }
  return in.ok() && in.left() == 0;
}

// XOR with the value before, then all first bytes, all second bytes, ...: equal bytes side by side for zstd.
std::string encode_values(const std::vector<double>& values) {
  std::string out(values.size() * 8, '\0');
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint64_t>(values[i]);
    for (std::size_t plane = 0; plane < 8; ++plane) {
      out[plane * values.size() + i] = static_cast<char>((bits ^ last) >> (8 * plane));
    }
    last = bits;
  }
  return out;
}

std::vector<double> decode_values(std::string_view bytes) {
  const std::size_t rows = bytes.size() / 8;
  std::vector<double> values(rows);
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t plane = 0; plane < 8; ++plane) {
      last ^= static_cast<std::uint64_t>(static_cast<std::uint8_t>(bytes[plane * rows + i])) << (8 * plane);
    }
    values[i] = std::bit_cast<double>(last);
  }
  return values;
}

std::string encode_details(const std::vector<DetailPtr>& details) {
  std::string out;
  for (const DetailPtr& detail : details) {
    if (detail == nullptr) {
      put_varint(out, 0);
      continue;
    }
    const bool ids = detail->trace_id[0] != 0 || detail->trace_id[1] != 0 || detail->span_id != 0;
    put_varint(out, 1 | (ids ? 2u : 0u));
    if (ids) {
      put_fixed64(out, detail->trace_id[0]);
      put_fixed64(out, detail->trace_id[1]);
      put_fixed64(out, detail->span_id);
    }
    put_varint(out, detail->attributes.size());
    for (const auto& [name, text] : detail->attributes) {
      put_string(out, name);
      put_string(out, text);
    }
    put_string(out, detail->body);
  }
  return out;
}

bool decode_details(Reader& in, std::size_t rows, std::vector<DetailPtr>& details) {
  if (rows > in.left()) return false;
  details.reserve(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    const std::uint64_t flags = in.varint();
    if (!in.ok() || flags > 3) return false;
    if (flags == 0) {
      details.push_back(nullptr);
      continue;
    }
    auto detail = std::make_shared<Detail>();
    if ((flags & 2) != 0) {
      detail->trace_id[0] = in.fixed64();
      detail->trace_id[1] = in.fixed64();
      detail->span_id = in.fixed64();
    }
    const std::uint64_t attributes = in.varint();
    if (!in.ok() || attributes > in.left()) return false;
    detail->attributes.reserve(attributes);
    for (std::uint64_t j = 0; j < attributes; ++j) {
      const std::string_view name = in.string();
      detail->attributes.emplace_back(name, in.string());
    }
    detail->body = in.string();
    details.push_back(std::move(detail));
  }
  return in.ok() && in.left() == 0;
}

std::string encode_keys(const Block& block) {
  std::string out;
  put_varint(out, block.keys.size());
  for (const Key& key : block.keys) {
    put_string(out, key.entity);
    put_string(out, key.name);
  }
  put_varint(out, block.runs.size());
  for (const Block::Run& run : block.runs) {
    put_varint(out, run.key);
    put_varint(out, run.end - run.begin);
  }
  return out;
}

bool decode_keys(Reader& in, std::size_t rows, Block& block) {
  const std::uint64_t keys = in.varint();
  if (!in.ok() || keys > in.left() / 2) return false;
  block.keys.reserve(keys);
  for (std::uint64_t i = 0; i < keys; ++i) {
    const std::string_view entity = in.string();
    block.keys.push_back({std::string(entity), std::string(in.string())});
  }
  const std::uint64_t runs = in.varint();
  if (!in.ok() || runs > in.left() / 2) return false;
  block.runs.reserve(runs);
  for (std::uint64_t i = 0; i < runs; ++i) {
    const std::uint64_t key = in.varint();
    const std::uint64_t length = in.varint();
    if (!in.ok() || key >= keys || length > rows - block.samples) return false;
    const auto begin = static_cast<std::uint32_t>(block.samples);
    block.runs.push_back({static_cast<std::uint32_t>(key), begin, begin + static_cast<std::uint32_t>(length)});
    block.samples += length;
  }
  return in.ok() && in.left() == 0;
}

bool decode_events(Reader& in, std::size_t rows, Block& block) {
  if (rows > in.left() / 3) return false;
  for (std::size_t i = 0; i < rows; ++i) {
    const std::uint64_t key = in.varint();
    const std::uint8_t kind = in.byte();
    const std::uint8_t severity = in.byte();
    if (!in.ok() || key >= block.keys.size() || kind < 1 || kind > kKindMax) return false;
    block.event_keys.push_back(static_cast<std::uint32_t>(key));
    block.event_kinds.push_back(static_cast<Kind>(kind));
    block.event_severities.push_back(severity);
  }
  return in.left() == 0;
}

}  // namespace

std::size_t Detail::bytes() const {
  std::size_t total = sizeof(Detail) + 32 + body.capacity();
  for (const auto& [name, text] : attributes) {
    total += sizeof(Attributes::value_type) + (name.size() > 15 ? name.size() + 1 : 0) +
             (text.size() > 15 ? text.size() + 1 : 0);
  }
  return total;
}

Event Hit::event() const {
  Event event;
  event.time_ns = time_ns;
  event.kind = kind;
  event.severity = severity;
  event.entity = key->entity;
  event.name = key->name;
  event.value = value;
  if (detail != nullptr) {
    event.trace_id[0] = detail->trace_id[0];
    event.trace_id[1] = detail->trace_id[1];
    event.span_id = detail->span_id;
    event.attributes = detail->attributes;
    event.body = detail->body;
  }
  return event;
}

std::size_t Block::bytes() const {
  std::size_t total = sizeof(Block) + rows() * (8 + 4 + 8) + event_keys.size() * (4 + 1 + 1 + 16);
  for (const Key& key : keys) total += sizeof(Key) + key.entity.size() + key.name.size();
  total += runs.size() * sizeof(Run);
  for (const DetailPtr& detail : details) total += detail ? detail->bytes() : 0;
  return total;
}

std::uint32_t Block::kinds() const {
  std::uint32_t kinds = samples > 0 ? kind_bit(Kind::Sample) : 0;
  for (const Kind kind : event_kinds) {
    kinds |= kind_bit(kind) | (kind == Kind::Sample ? kDetailedSamples : 0);
  }
  return kinds;
}

void Block::collect(const Matcher& matcher, std::int64_t shift_ns, std::vector<Hit>& out) const {
  std::vector<bool> wanted(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) wanted[i] = matcher.key(keys[i].entity, keys[i].name);
  if (matcher.kind(Kind::Sample) && matcher.severity(kUnset) && !matcher.needs_detail()) {
    for (const Run& run : runs) {
      if (!wanted[run.key]) continue;
      for (std::uint32_t i = run.begin; i < run.end; ++i) {
        const std::int64_t time = wrapping_add(times[i], shift_ns);
        if (!matcher.time(time)) continue;
        out.push_back({time, sequence(i), values[i], &keys[run.key], nullptr, Kind::Sample, kUnset});
      }
    }
  }
  static const Detail kNone;
  for (std::size_t i = 0; i < event_keys.size(); ++i) {
    const std::size_t row = samples + i;
    const std::int64_t time = wrapping_add(times[row], shift_ns);
    if (!wanted[event_keys[i]] || !matcher.time(time) || !matcher.kind(event_kinds[i]) ||
        !matcher.severity(event_severities[i])) {
      continue;
    }
    const Detail* detail = details.empty() ? nullptr : details[i].get();
    if (matcher.needs_detail() && !matcher.detail((detail ? detail : &kNone)->attributes,
                                                  (detail ? detail : &kNone)->body)) {
      continue;
    }
    out.push_back({time, sequence(row), values[row], &keys[event_keys[i]], detail, event_kinds[i],
                   event_severities[i]});
  }
}

Block seal(std::span<const Row> rows, const KeyTable& keys) {
  Block block;
  std::vector<const Row*> order;
  order.reserve(rows.size());
  for (const Row& row : rows) order.push_back(&row);
  std::sort(order.begin(), order.end(), [](const Row* a, const Row* b) {
    const bool plain_a = a->plain_sample(), plain_b = b->plain_sample();
    if (plain_a != plain_b) return plain_a;
    if (plain_a && a->key != b->key) return a->key < b->key;
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->sequence < b->sequence;
  });
  block.sequence_base = UINT64_MAX;
  for (const Row& row : rows) block.sequence_base = std::min(block.sequence_base, row.sequence);
  for (std::size_t i = 0; i < keys.size(); ++i) block.keys.push_back(keys[i]);
  block.times.reserve(rows.size());
  block.values.reserve(rows.size());
  block.sequences.reserve(rows.size());
  for (const Row* row : order) {
    const auto index = static_cast<std::uint32_t>(block.times.size());
    block.times.push_back(row->time_ns);
    block.values.push_back(row->value);
    block.sequences.push_back(static_cast<std::uint32_t>(row->sequence - block.sequence_base));
    if (row->plain_sample()) {
      if (block.runs.empty() || block.runs.back().key != row->key) block.runs.push_back({row->key, index, index});
      ++block.runs.back().end;
      ++block.samples;
    } else {
      block.event_keys.push_back(row->key);
      block.event_kinds.push_back(row->kind);
      block.event_severities.push_back(row->severity);
      block.details.push_back(row->detail);
    }
  }
  return block;
}

std::string compress(std::string_view bytes) {
  const ZstdContext context(ZSTD_createCCtx());
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kZstdLevel);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const std::size_t size = ZSTD_compress2(context.get(), out.data(), out.size(), bytes.data(), bytes.size());
  assert(!ZSTD_isError(size));  // the only failures are a small buffer and no memory
  out.resize(size);
  return out;
}

Result<std::string> decompress(std::string_view bytes) {
  const unsigned long long size = ZSTD_getFrameContentSize(bytes.data(), bytes.size());
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > kColumnBytesMax) {
    return fail(Code::Corrupt, "no compressed data of ours");
  }
  std::string out(size, '\0');
  const std::size_t got = ZSTD_decompress(out.data(), out.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(got) || got != size) {
    return fail(Code::Corrupt, fmt::format("compressed data damaged: {}", ZSTD_isError(got) ? ZSTD_getErrorName(got) : "cut"));
  }
  return out;
}

Columns encode(const Block& block) {
  std::string events;
  for (std::size_t i = 0; i < block.event_keys.size(); ++i) {
    put_varint(events, block.event_keys[i]);
    events.push_back(static_cast<char>(block.event_kinds[i]));
    events.push_back(static_cast<char>(block.event_severities[i]));
  }
  const std::string plain[kColumns] = {encode_keys(block),          encode_integers(block.times),
                                       encode_integers(block.sequences), encode_values(block.values),
                                       std::move(events),           encode_details(block.details)};
  Columns columns;
  for (std::size_t i = 0; i < kColumns; ++i) columns[i] = static_cast<char>(kFormat + i) + compress(plain[i]);
  return columns;
}

Result<Block> decode(const Columns& columns, std::uint32_t wanted, std::size_t rows, std::uint64_t sequence_base) {
  Block block;
  block.sequence_base = sequence_base;
  for (std::size_t i = 0; i < kColumns; ++i) {
    const auto column = static_cast<Column>(i);
    if ((wanted & column_bit(column)) == 0) continue;
    const std::string_view blob = columns[i];
    if (!blob.starts_with(static_cast<char>(kFormat + i))) return corrupt(column, Reader(blob));
    auto bytes = decompress(blob.substr(1));
    if (!bytes) return std::unexpected(bytes.error().context(fmt::format("column '{}'", kColumnNames[i])));
    Reader in(*bytes);
    bool good = true;
    switch (column) {
      case Column::Keys: good = decode_keys(in, rows, block); break;
      case Column::Times: good = decode_integers(in, rows, block.times); break;
      case Column::Sequences: good = decode_integers(in, rows, block.sequences); break;
      case Column::Values:
        good = bytes->size() == rows * 8;
        if (good) block.values = decode_values(*bytes);
        break;
      case Column::Events: good = decode_events(in, rows - block.samples, block); break;
      case Column::Details: good = decode_details(in, rows - block.samples, block.details); break;
    }
    if (!good) return corrupt(column, in);
  }
  return block;
}

}  // namespace culprit::stream
