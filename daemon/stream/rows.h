// Rows: how events lie in memory between append and seal, and what a query hands around.
//
// A row is a few fixed fields; what only some events have (ids, attributes, body) is a Detail in the same
// DetailStore. Texts lie in chunks that never move and equal attribute lists are kept once, so that a row costs
// no allocation and a reader may go on using what it found while the owner adds more.
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

// Small numbers for things that are told apart by a hash and a comparison: open addressing, never shrinks.
class HashIndex {
 public:
  // The id whose hash is this and for which `same` holds, or `fresh`, which then has its place.
  template <typename Same>
  std::uint32_t find_or_add(std::uint64_t hash, std::uint32_t fresh, Same&& same) {
    if ((used_ + 1) * 4 > slots_.size() * 3) grow();
    for (std::size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.id == kFree) {
        slot = {hash, fresh};
        ++used_;
        return fresh;
      }
      if (slot.hash == hash && same(slot.id)) return slot.id;
    }
  }
  // For a caller that looks up several: has the hash's place fetched, and later tells what probably is there.
  void prefetch(std::uint64_t hash) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash & (slots_.size() - 1)]);
  }
  std::optional<std::uint32_t> candidate(std::uint64_t hash) const {
    const Slot* const slot = slots_.empty() ? nullptr : &slots_[hash & (slots_.size() - 1)];
    return slot == nullptr || slot->id == kFree ? std::nullopt : std::optional(slot->id);
  }
  void clear() {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    used_ = 0;
  }
  std::size_t bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  static constexpr std::uint32_t kFree = UINT32_MAX;
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t id = kFree;
  };
  void grow();
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

// Gives each (entity, name, kind) a small number, in order of first appearance. Entries never move or change.
class KeyTable {
 public:
  std::uint32_t intern(std::string_view entity, std::string_view name, Kind kind = Kind::Sample) { return intern(hash(entity, name, kind), entity, name, kind); }
  static std::uint64_t hash(std::string_view entity, std::string_view name, Kind kind);
  std::uint32_t intern(std::uint64_t hash, std::string_view entity, std::string_view name, Kind kind);
  void prefetch(std::uint64_t hash) const { index_.prefetch(hash); }
  void prefetch_key(std::uint64_t hash) const {
    if (const auto id = index_.candidate(hash)) __builtin_prefetch(&keys_[*id]);
  }
  const Key& operator[](std::size_t id) const { return keys_[id]; }
  std::size_t size() const { return keys_.size(); }

 private:
  std::deque<Key> keys_;
  HashIndex index_;
};

// Attributes as bytes: name and text of each, every one a string of bytes.h.
void put_attributes(std::string& out, const Attributes& attributes);
Attributes attributes_of(std::string_view coded);
bool well_formed_attributes(std::string_view coded);  // the others need it
bool holds_attribute(std::string_view coded, std::string_view name, std::string_view text);

struct alignas(64) Detail {  // one line of the cache: an encoder meets them in no order of memory
  std::uint64_t trace_id[2] = {0, 0};
  std::uint64_t span_id = 0;
  std::string_view body = {};
  std::string_view attributes = {};  // coded
  std::uint32_t set = 0;             // the number of this attribute list in its store; 0 = none

  bool has_ids() const { return trace_id[0] != 0 || trace_id[1] != 0 || span_id != 0; }
};

class DetailStore {
 public:
  DetailStore() = default;
  DetailStore(const DetailStore&) = delete;
  DetailStore& operator=(const DetailStore&) = delete;

  static bool needed(const Event& event) {
    return event.span_id != 0 || event.trace_id[0] != 0 || event.trace_id[1] != 0 || !event.attributes.empty() || !event.body.empty();
  }
  // Of several events at a time (at most kTogether), so that what their look-ups touch is fetched meanwhile:
  // prepare(), then take() for each of them that needs it, by its place among them.
  static constexpr std::size_t kTogether = 16;
  void prepare(std::span<const Event> events);
  const Detail* take(const Event& event, std::size_t place);
  const Detail* add(const Event& event) {
    prepare({&event, 1});
    return take(event, 0);
  }

  // For a decoder, which has its texts already: keeps the buffer (its bytes do not move); takes any details.
  std::string_view keep(std::string buffer);
  Detail& fresh();
  std::vector<std::string_view>& sets() { return sets_; }

  std::size_t set_count() const { return sets_.size(); }
  std::string_view set(std::size_t number) const { return sets_[number - 1]; }
  std::size_t bytes() const { return bytes_ + sets_.size() * sizeof(std::string_view) + index_.bytes(); }

 private:
  std::string_view copy(std::string_view text);

  std::deque<std::string> buffers_;
  std::deque<std::unique_ptr<char[]>> chunks_;
  std::size_t left_ = 0;  // in the last chunk
  std::size_t bytes_ = 0;
  std::deque<std::unique_ptr<Detail[]>> slabs_;
  std::size_t slab_details_ = 0, details_left_ = 0;  // of the last slab: how many it has, how many are free
  std::vector<std::string_view> sets_;  // number n is sets_[n - 1]
  HashIndex index_;
  struct Prepared {
    std::size_t end = 0;  // of its attributes in scratch_
    std::uint64_t hash = 0;
  };
  std::array<Prepared, kTogether> prepared_;
  std::string scratch_;
};

// One row as the active rows keep it.
struct Row {
  std::int64_t time_ns;
  std::uint64_t sequence;  // order of append
  double value;
  const Detail* detail;    // may be null
  std::uint32_t key;
  std::uint8_t severity;

  bool plain(const KeyTable& keys) const { return detail == nullptr && severity == 0 && keys[key].kind == Kind::Sample; }
};

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
