// What a channel and a map say about themselves: `culprit status`, the page and /metrics print these.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace culprit::concurrent {

// Why a channel gave an item up. Both are policies that the channel's owner chose; loss is never silent.
enum class DropReason : std::uint8_t {
  Full,         // WhenFull::DropNewest: the new item found no room
  Overwritten,  // WhenFull::OverwriteOldest: a newer item took the place of this one
};
inline constexpr std::size_t kDropReasons = 2;
std::string_view drop_reason_name(DropReason reason);  // "full", "overwritten"

// At rest these hold exactly:  sent = received + length + dropped[Overwritten];
// items offered = sent + dropped[Full] + items handed back to the caller (closed, timed out, stopped).
struct ChannelStats {
  std::string name;
  std::size_t capacity = 0;
  std::size_t length = 0;               // items in the ring now
  std::uint64_t send_index = 0;         // next slot to write, ever growing
  std::uint64_t recv_index = 0;         // next slot to read
  std::size_t parked_senders = 0;       // threads (or selects) waiting for room
  std::size_t parked_receivers = 0;     // threads (or selects) waiting for an item
  std::uint64_t sent = 0;               // items accepted, also those handed over without the ring
  std::uint64_t received = 0;
  std::array<std::uint64_t, kDropReasons> dropped{};
  std::size_t high_water = 0;           // largest length seen
  std::uint64_t blocked_ns = 0;         // time that senders waited for room
  std::uint64_t idle_ns = 0;            // time that receivers waited for an item
  bool closed = false;

  std::uint64_t dropped_total() const { return dropped[0] + dropped[1]; }
};

struct MapStats {
  std::string name;
  std::size_t entries = 0;
  std::size_t max_entries = 0;          // 0: no limit
  std::size_t segments = 0;
  double load = 0;                      // entries / slots
  std::uint64_t splits = 0;
  std::size_t tombstones = 0;
  std::size_t bytes = 0;                // index and entries, as reserved from the system
  std::uint64_t longest_insert_ns = 0;  // of those that had to split a segment
  std::uint64_t inserted = 0;
  std::uint64_t erased = 0;
  std::uint64_t refused = 0;            // inserts refused: max_entries, max_bytes, or no memory
  std::uint64_t crowded = 0;            // inserts refused because their hashes collide beyond what a split can part
};

}  // namespace culprit::concurrent
