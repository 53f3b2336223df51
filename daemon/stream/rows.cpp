#include "daemon/stream/rows.h"

#include <bit>
#include <cstring>
#include <random>

#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kCacheLineBytes = 64;

// As memcmp(), which costs a call: names are short.
bool equal(const char* at, std::string_view text) {
  const auto differ = [](const char* a, const char* b) {
    std::uint64_t left, right;
    std::memcpy(&left, a, 8);
    std::memcpy(&right, b, 8);
    return left ^ right;
  };
  if (text.size() < 8) return std::memcmp(at, text.data(), text.size()) == 0;
  std::uint64_t difference = differ(at + text.size() - 8, text.data() + text.size() - 8);
  for (std::size_t i = 0; i + 8 < text.size(); i += 8) difference |= differ(at + i, text.data() + i);
  return difference == 0;
}

bool has_ids(const Event& event) { return event.span_id != 0 || event.trace_id[0] != 0 || event.trace_id[1] != 0; }

// Ids that programs make are random numbers, but nobody has to: an outsider must not choose ids that collide.
std::uint64_t ids_hash(const Event& event) {
  return table_hash({reinterpret_cast<const char*>(event.trace_id), sizeof event.trace_id}, table_seed() + event.span_id);
}

std::string_view find_coded(const void* detail, std::string_view name) {
  Reader in(static_cast<const Detail*>(detail)->attributes());
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

void HashIndex::resize(std::size_t slots) {
  std::vector<Slot> old(slots);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id == kFree) continue;
    std::size_t at = slot.tag & (slots_.size() - 1);
    while (slots_[at].id != kFree) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }
}

// Both texts at once, not one after the other.
std::uint64_t KeyTable::hash(std::string_view entity, std::string_view name, Kind kind) {
  const std::uint64_t seed = table_seed();
  return fold(table_hash(entity, seed) ^ 0xff51afd7ed558ccdu, table_hash(name, seed + static_cast<std::uint64_t>(kind)) ^ seed);
}

std::uint32_t KeyTable::intern(std::uint64_t hash, std::string_view entity, std::string_view name, Kind kind) {
  const auto fresh = static_cast<std::uint32_t>(entries_.size());
  const std::uint32_t id = index_.find_or_add(hash, fresh, [&](std::uint32_t other) {
    const Entry& entry = entries_[other];
    return entry.kind == kind && entry.entity_bytes == entity.size() && entry.name_bytes == name.size() &&
           equal(entry.text, entity) && equal(entry.text + entity.size(), name);
  });
  if (id == fresh) {
    Key& key = keys_.emplace_back(std::string(entity), std::string(name), kind);
    const std::string_view text = texts_.copy(key.entity + key.name);
    entries_.push_back({text.data(), static_cast<std::uint32_t>(entity.size()), static_cast<std::uint32_t>(name.size()), kind});
  }
  return id;
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

void DetailStore::prepare(std::span<const Event> events) {
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (!events[i].attributes.empty()) {
      prepared_[i].list_hash = table_hash(events[i].attributes.coded(), table_seed());
      list_index_.prefetch(prepared_[i].list_hash);
    }
    if (has_ids(events[i])) {
      prepared_[i].ids_hash = ids_hash(events[i]);
      ids_index_.prefetch(prepared_[i].ids_hash);
    }
  }
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (const auto known = events[i].attributes.empty() ? std::nullopt : list_index_.candidate(prepared_[i].list_hash)) {
      const char* const text = lists_[*known].coded.data();
      for (std::size_t ahead = 0; ahead < 3; ++ahead) __builtin_prefetch(text + ahead * kCacheLineBytes);
    }
    if (const auto known = has_ids(events[i]) ? ids_index_.candidate(prepared_[i].ids_hash) : std::nullopt) __builtin_prefetch(&ids_[*known]);
  }
}

const Detail* DetailStore::take(const Event& event, std::size_t place) {
  Detail detail;
  if (!event.body.empty()) detail.set_body(texts_.copy(event.body));
  if (const std::string_view coded = event.attributes.coded(); !coded.empty()) {
    const auto next = static_cast<std::uint32_t>(lists_.size());
    const std::uint32_t known = list_index_.find_or_add(prepared_[place].list_hash, next, [&](std::uint32_t other) { return lists_[other].coded == coded; });
    detail.list = known == next ? add_list(lists_of_.copy(coded)) : &lists_[known];
  }
  if (has_ids(event)) {
    const auto next = static_cast<std::uint32_t>(ids_.size());
    const std::uint32_t known = ids_index_.find_or_add(prepared_[place].ids_hash, next, [&](std::uint32_t other) {
      const Ids& ids = ids_[other];
      return ids.trace[0] == event.trace_id[0] && ids.trace[1] == event.trace_id[1] && ids.span == event.span_id;
    });
    detail.ids = known == next ? add_ids({{event.trace_id[0], event.trace_id[1]}, event.span_id}) : &ids_[known];
  }
  return &details_.add(texts_, detail);
}

std::string_view DetailStore::keep(std::string buffer) {
  kept_bytes_ += buffer.capacity();
  return buffers_.emplace_back(std::move(buffer));
}

std::string_view DetailStore::keep_joined(std::string_view begin, std::string_view middle, std::string_view end) {
  const std::size_t size = begin.size() + middle.size() + end.size();
  if (size == 0) return "";
  auto* const to = reinterpret_cast<char*>(lists_of_.take(size, 1));
  char* at = to;
  for (const std::string_view part : {begin, middle, end}) at = std::ranges::copy(part, at).out;
  return {to, size};
}

RowView Hit::view() const {
  RowView view{.time_ns = time_ns, .kind = key->kind, .severity = severity, .value = value, .entity = key->entity, .name = key->name};
  if (detail != nullptr) {
    view.body = detail->body();
    if (detail->ids != nullptr) {
      view.trace_id[0] = detail->ids->trace[0];
      view.trace_id[1] = detail->ids->trace[1];
      view.span_id = detail->ids->span;
    }
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
    if (detail->ids != nullptr) {
      event.trace_id[0] = detail->ids->trace[0];
      event.trace_id[1] = detail->ids->trace[1];
      event.span_id = detail->ids->span;
    }
    event.attributes = Attributes::of(detail->attributes());
    event.body = detail->body();
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
  const bool ids = detail != nullptr && detail->ids != nullptr;
  const bool attributes = detail != nullptr && detail->list != nullptr;
  const bool body = detail != nullptr && detail->body_bytes != 0;
  out.push_back(static_cast<char>((ids ? 1 : 0) | (attributes ? 2 : 0) | (body ? 4 : 0)));
  if (ids) {
    put_fixed64(out, detail->ids->trace[0]);
    put_fixed64(out, detail->ids->trace[1]);
    put_fixed64(out, detail->ids->span);
  }
  if (attributes) {
    std::uint64_t count = 0;
    Reader in(detail->attributes());
    for (; in.left() > 0; ++count) {
      (void)in.string();
      (void)in.string();
    }
    put_varint(out, count);
    out.append(detail->attributes());
  }
  if (body) put_string(out, detail->body());
}

}  // namespace culprit::stream
