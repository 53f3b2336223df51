// Rows: how events lie in memory between append and seal, and what a query hands around.
//
// A row is a few fixed fields; what only some events have (ids, attributes, body) is a Detail in the same
// DetailStore. Texts lie in an arena; equal attribute lists and equal ids are kept once, with a number each. So a row
// costs no allocation, and a reader may go on using what it found while the owner adds more.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/stream/arena.h"
#include "daemon/stream/event.h"
#include "daemon/stream/filter.h"

namespace culprit::stream {

// What a series, a group and a dictionary entry are named by. Rows of one key are of one kind.
struct Key {
  std::string entity;
  std::string name;
  Kind kind = Kind::Sample;
};

std::uint64_t table_seed();  // random, the same for the life of the process

// Small numbers for things that are told apart by a hash and a comparison: open addressing, never shrinks. A slot is
// eight bytes, since how many of them a core's cache holds decides what a look-up costs.
class HashIndex {
 public:
  // The id whose hash is this (of 64 bits; 32 are kept) and for which `same` holds, or `fresh`, which then has its place.
  template <typename Same>
  std::uint32_t find_or_add(std::uint64_t hash, std::uint32_t fresh, Same&& same) {
    if ((used_ + 1) * 4 > slots_.size() * 3) resize(std::max<std::size_t>(slots_.size() * 2, 64));
    const auto tag = static_cast<std::uint32_t>(hash);
    for (std::size_t at = tag & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.id == kFree) {
        slot = {tag, fresh};
        ++used_;
        return fresh;
      }
      if (slot.tag == tag && same(slot.id)) return slot.id;
    }
  }
  // For a caller that looks up several: has the hash's place fetched, and later tells what probably is there. Always
  // inline: g++ takes a function that does nothing but prefetch for one that does nothing, and drops the call (seen in 12).
  [[gnu::always_inline]] void prefetch(std::uint64_t hash) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[static_cast<std::uint32_t>(hash) & (slots_.size() - 1)]);
  }
  std::optional<std::uint32_t> candidate(std::uint64_t hash) const {
    const Slot* const slot = slots_.empty() ? nullptr : &slots_[static_cast<std::uint32_t>(hash) & (slots_.size() - 1)];
    return slot == nullptr || slot->id == kFree ? std::nullopt : std::optional(slot->id);
  }
  // Room for as many as this other one has: growing would move all of them several times.
  void expect_as(const HashIndex& other) {
    if (slots_.size() < other.slots_.size() && other.used_ * 4 > other.slots_.size()) resize(other.slots_.size());
  }
  std::size_t bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  static constexpr std::uint32_t kFree = UINT32_MAX;
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t id = kFree;
  };
  void resize(std::size_t slots);
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

// Gives each (entity, name, kind) a small number, in order of first appearance. Entries never move or change.
class KeyTable {
 public:
  std::uint32_t intern(std::string_view entity, std::string_view name, Kind kind = Kind::Sample) { return intern(hash(entity, name, kind), entity, name, kind); }
  static std::uint64_t hash(std::string_view entity, std::string_view name, Kind kind);
  std::uint32_t intern(std::uint64_t hash, std::string_view entity, std::string_view name, Kind kind);
  [[gnu::always_inline]] void prefetch(std::uint64_t hash) const { index_.prefetch(hash); }
  [[gnu::always_inline]] void prefetch_key(std::uint64_t hash) const {
    if (const auto id = index_.candidate(hash)) __builtin_prefetch(entries_[*id].text);
  }
  void expect_as(const KeyTable& other) { index_.expect_as(other.index_); }
  const Key& operator[](std::size_t id) const { return keys_[id]; }
  std::size_t size() const { return entries_.size(); }

 private:
  // What a look-up compares: entity and name one behind the other, close to those of the other keys.
  struct Entry {
    const char* text;
    std::uint32_t entity_bytes, name_bytes;
    Kind kind;
  };
  std::deque<Key> keys_;
  std::vector<Entry> entries_;
  Arena texts_;
  HashIndex index_;
};

// Attributes as bytes (Attributes::coded).
bool well_formed_attributes(std::string_view coded);  // the others need it
bool holds_attribute(std::string_view coded, std::string_view name, std::string_view text);

struct Ids {
  std::uint64_t trace[2] = {0, 0};
  std::uint64_t span = 0;
  std::uint32_t number = 0;  // in its store, from 1
};

struct AttributeList {
  std::string_view coded;
  std::uint32_t number = 0;  // in its store, from 1
};

// An encoder meets them in no order of memory: two to a line of the cache.
struct alignas(32) Detail {
  const Ids* ids = nullptr;               // null: none
  const AttributeList* list = nullptr;    // null: no attributes
  const char* body_at = "";
  std::uint32_t body_bytes = 0;

  std::string_view body() const { return {body_at, body_bytes}; }
  std::string_view attributes() const { return list == nullptr ? std::string_view("") : list->coded; }
  void set_body(std::string_view body) {
    body_at = body.data();
    body_bytes = static_cast<std::uint32_t>(body.size());
  }
};
inline constexpr std::uint64_t kBodyBytesMax = UINT32_MAX;

class DetailStore {
 public:
  explicit DetailStore(std::shared_ptr<ChunkPool> pool = nullptr) : texts_(pool), lists_of_(std::move(pool)) {}
  DetailStore(const DetailStore&) = delete;
  DetailStore& operator=(const DetailStore&) = delete;

  static bool needed(const Event& event) {
    return event.span_id != 0 || event.trace_id[0] != 0 || event.trace_id[1] != 0 || !event.attributes.empty() || !event.body.empty();
  }
  // Of several events at a time (at most kTogether), so that what their look-ups touch is fetched meanwhile:
  // prepare(), then take() for each of them that needs it, by its place among them. A body has at most kBodyBytesMax.
  static constexpr std::size_t kTogether = 16;
  void prepare(std::span<const Event> events);
  const Detail* take(const Event& event, std::size_t place);
  const Detail* add(const Event& event) {
    prepare({&event, 1});
    return take(event, 0);
  }
  void expect_as(const DetailStore& other) {
    list_index_.expect_as(other.list_index_);
    ids_index_.expect_as(other.ids_index_);
  }

  // For a decoder, which has its texts already: keeps the buffer (its bytes do not move); takes any details, lists, ids.
  std::string_view keep(std::string buffer);
  std::string_view keep_joined(std::string_view begin, std::string_view middle, std::string_view end);
  Detail& fresh() { return details_.add(texts_, {}); }
  const AttributeList* add_list(std::string_view coded) { return &lists_.add(lists_of_, {coded, static_cast<std::uint32_t>(lists_.size() + 1)}); }
  const Ids* add_ids(const Ids& ids) { return &ids_.add(texts_, {{ids.trace[0], ids.trace[1]}, ids.span, static_cast<std::uint32_t>(ids_.size() + 1)}); }

  std::size_t list_count() const { return lists_.size(); }
  const AttributeList& list(std::size_t number) const { return lists_[number - 1]; }
  std::size_t ids_count() const { return ids_.size(); }
  std::size_t bytes() const { return kept_bytes_ + texts_.bytes() + lists_of_.bytes() + list_index_.bytes() + ids_index_.bytes(); }

 private:
  std::deque<std::string> buffers_;
  std::size_t kept_bytes_ = 0;
  Arena texts_;     // bodies, details, ids
  Arena lists_of_;  // attribute lists and their texts, which look-ups read: close to each other
  Slabs<Detail> details_;
  Slabs<AttributeList> lists_;
  Slabs<Ids> ids_;
  HashIndex list_index_, ids_index_;
  struct Prepared {
    std::uint64_t list_hash = 0, ids_hash = 0;
  };
  std::array<Prepared, kTogether> prepared_;
};

// One row as the active rows keep it, in order of append. Two to a line of the cache.
struct alignas(32) Row {
  std::int64_t time_ns;
  double value;
  const Detail* detail;  // may be null
  std::uint32_t key;
  Kind kind;             // its key's
  std::uint8_t severity;

  bool plain() const { return detail == nullptr && severity == 0 && kind == Kind::Sample; }
};
static_assert(sizeof(Row) == 32);

// One match of a query. Borrows from the rows or the block that it was found in.
struct Hit {
  std::int64_t time_ns;
  std::uint64_t sequence;
  double value;
  const Key* key;
  const Detail* detail;  // may be null
  std::uint8_t severity;

  bool operator<(const Hit& other) const { return time_ns != other.time_ns ? time_ns < other.time_ns : sequence < other.sequence; }
  RowView view() const;
  Event event() const;
  void encode_bytes(std::string& out) const;  // as codec.h's encode_bytes(event())
};

}  // namespace culprit::stream
