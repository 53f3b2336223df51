#include "daemon/stream/rows.h"

#include <bit>
#include <cstring>
#include <random>

#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kChunkBytes = 64 << 10;
constexpr std::size_t kSlabDetailsMin = 8, kSlabDetailsMax = 1024;  // each slab is twice the one before
constexpr std::size_t kVarintBytesMax = 10;

// Names and values of attributes are short: two copies that may overlap, of a size the compiler knows, take less than a call.
template <std::size_t N>
void copy_ends(char* to, std::string_view text) {
  std::memcpy(to, text.data(), N);
  std::memcpy(to + text.size() - N, text.data() + text.size() - N, N);
}

char* write_string(char* to, std::string_view text) {
  std::uint64_t size = text.size();
  for (; size >= 0x80; size >>= 7) *to++ = static_cast<char>(size | 0x80);
  *to++ = static_cast<char>(size);
  if (text.size() > 32) {
    std::memcpy(to, text.data(), text.size());
  } else if (text.size() >= 16) {
    copy_ends<16>(to, text);
  } else if (text.size() >= 8) {
    copy_ends<8>(to, text);
  } else if (text.size() >= 4) {
    copy_ends<4>(to, text);
  } else {
    for (std::size_t i = 0; i < text.size(); ++i) to[i] = text[i];
  }
  return to + text.size();
}

std::string_view find_coded(const void* detail, std::string_view name) {
  Reader in(static_cast<const Detail*>(detail)->attributes);
  while (in.left() > 0) {
    const std::string_view key = in.string();
    const std::string_view text = in.string();
    if (key == name) return text.data() == nullptr ? std::string_view("") : text;
  }
  return {};
}

}  // namespace

std::uint64_t table_seed() {
  static const std::uint64_t seed = (std::uint64_t{std::random_device{}()} << 32) ^ std::random_device{}();
  return seed;
}

void HashIndex::grow() {
  std::vector<Slot> old(std::max<std::size_t>(slots_.size() * 2, 64));
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id == kFree) continue;
    std::size_t at = slot.hash & (slots_.size() - 1);
    while (slots_[at].id != kFree) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }
}

std::uint64_t KeyTable::hash(std::string_view entity, std::string_view name, Kind kind) {
  return table_hash(name, table_hash(entity, table_seed() + static_cast<std::uint64_t>(kind)));
}

std::uint32_t KeyTable::intern(std::uint64_t hash, std::string_view entity, std::string_view name, Kind kind) {
  const auto fresh = static_cast<std::uint32_t>(keys_.size());
  const std::uint32_t id = index_.find_or_add(hash, fresh, [&](std::uint32_t other) {
    const Key& key = keys_[other];
    return key.kind == kind && key.name == name && key.entity == entity;
  });
  if (id == fresh) keys_.push_back({std::string(entity), std::string(name), kind});
  return id;
}

void put_attributes(std::string& out, const Attributes& attributes) {
  const std::size_t before = out.size();
  std::size_t bytes_max = before;
  for (const auto& [name, text] : attributes) bytes_max += name.size() + text.size() + 2 * kVarintBytesMax;
  out.resize_and_overwrite(bytes_max, [&](char* begin, std::size_t) {
    char* to = begin + before;
    for (const auto& [name, text] : attributes) to = write_string(write_string(to, name), text);
    return static_cast<std::size_t>(to - begin);
  });
}

Attributes attributes_of(std::string_view coded) {
  Attributes attributes;
  Reader in(coded);
  while (in.left() > 0 && in.ok()) {
    const std::string_view name = in.string();
    attributes.emplace_back(name, in.string());
  }
  return attributes;
}

bool well_formed_attributes(std::string_view coded) {
  Reader in(coded);
  while (in.left() > 0 && in.ok()) {
    (void)in.string();
    (void)in.string();
  }
  return in.ok();
}

bool holds_attribute(std::string_view coded, std::string_view name, std::string_view text) {
  Reader in(coded);
  while (in.left() > 0) {
    const bool named = in.string() == name;
    if (in.string() == text && named) return true;
  }
  return false;
}

std::string_view DetailStore::copy(std::string_view text) {
  if (text.empty()) return "";
  if (text.size() > kChunkBytes / 4) return keep(std::string(text));  // a chunk of its own wastes nothing
  if (text.size() > left_) {
    chunks_.push_back(std::unique_ptr<char[]>(new char[kChunkBytes]));
    bytes_ += kChunkBytes;
    left_ = kChunkBytes;
  }
  char* to = chunks_.back().get() + (kChunkBytes - left_);
  std::memcpy(to, text.data(), text.size());
  left_ -= text.size();
  return {to, text.size()};
}

Detail& DetailStore::fresh() {
  if (details_left_ == 0) {
    slab_details_ = std::clamp(slab_details_ * 2, kSlabDetailsMin, kSlabDetailsMax);
    slabs_.push_back(std::make_unique<Detail[]>(slab_details_));
    bytes_ += slab_details_ * sizeof(Detail);
    details_left_ = slab_details_;
  }
  return slabs_.back()[slab_details_ - details_left_--];
}

void DetailStore::prepare(std::span<const Event> events) {
  scratch_.clear();
  for (std::size_t i = 0; i < events.size(); ++i) {
    const std::size_t begin = scratch_.size();
    put_attributes(scratch_, events[i].attributes);
    prepared_[i] = {scratch_.size(), table_hash(std::string_view(scratch_).substr(begin), table_seed())};
    if (scratch_.size() > begin) index_.prefetch(prepared_[i].hash);
  }
  for (std::size_t i = 0, begin = 0; i < events.size(); begin = prepared_[i++].end) {
    if (prepared_[i].end == begin) continue;
    if (const auto set = index_.candidate(prepared_[i].hash)) __builtin_prefetch(sets_[*set - 1].data());
  }
}

const Detail* DetailStore::take(const Event& event, std::size_t place) {
  Detail& detail = fresh();
  detail.trace_id[0] = event.trace_id[0];
  detail.trace_id[1] = event.trace_id[1];
  detail.span_id = event.span_id;
  detail.body = copy(event.body);
  const std::size_t begin = place == 0 ? 0 : prepared_[place - 1].end;
  const std::string_view coded = std::string_view(scratch_).substr(begin, prepared_[place].end - begin);
  if (!coded.empty()) {
    const auto next = static_cast<std::uint32_t>(sets_.size() + 1);
    detail.set = index_.find_or_add(prepared_[place].hash, next, [&](std::uint32_t other) { return sets_[other - 1] == coded; });
    if (detail.set == next) sets_.push_back(copy(coded));
    detail.attributes = sets_[detail.set - 1];
  }
  return &detail;
}

std::string_view DetailStore::keep(std::string buffer) {
  bytes_ += buffer.capacity();
  return buffers_.emplace_back(std::move(buffer));
}

RowView Hit::view() const {
  RowView view{.time_ns = time_ns, .kind = key->kind, .severity = severity, .value = value, .entity = key->entity, .name = key->name};
  if (detail != nullptr) {
    view.body = detail->body;
    view.trace_id[0] = detail->trace_id[0];
    view.trace_id[1] = detail->trace_id[1];
    view.span_id = detail->span_id;
    view.attributes = detail;
    view.find = find_coded;
  }
  return view;
}

Event Hit::event() const {
  Event event;
  event.time_ns = time_ns;
  event.kind = key->kind;
  event.severity = severity;
  event.entity = key->entity;
  event.name = key->name;
  event.value = value;
  if (detail != nullptr) {
    event.trace_id[0] = detail->trace_id[0];
    event.trace_id[1] = detail->trace_id[1];
    event.span_id = detail->span_id;
    event.attributes = attributes_of(detail->attributes);
    event.body = detail->body;
  }
  return event;
}

void Hit::encode_bytes(std::string& out) const {
  put_signed(out, time_ns);
  out.push_back(static_cast<char>(key->kind));
  out.push_back(static_cast<char>(severity));
  put_string(out, key->entity);
  put_string(out, key->name);
  put_fixed64(out, std::bit_cast<std::uint64_t>(value));
  const bool ids = detail != nullptr && detail->has_ids();
  const bool attributes = detail != nullptr && !detail->attributes.empty();
  const bool body = detail != nullptr && !detail->body.empty();
  out.push_back(static_cast<char>((ids ? 1 : 0) | (attributes ? 2 : 0) | (body ? 4 : 0)));
  if (ids) {
    put_fixed64(out, detail->trace_id[0]);
    put_fixed64(out, detail->trace_id[1]);
    put_fixed64(out, detail->span_id);
  }
  if (attributes) {
    std::uint64_t count = 0;
    Reader in(detail->attributes);
    for (; in.left() > 0; ++count) {
      (void)in.string();
      (void)in.string();
    }
    put_varint(out, count);
    out.append(detail->attributes);
  }
  if (body) put_string(out, detail->body);
}

}  // namespace culprit::stream
