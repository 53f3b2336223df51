// Query: what both stores share of answering one: the compiled filter, and grouping.
#pragma once

#include <deque>
#include <span>
#include <unordered_map>

#include "daemon/stream/filter.h"
#include "daemon/stream/store.h"

namespace culprit::stream {

// (entity, name): what a series, a group and a dictionary entry are named by.
struct Key {
  std::string entity;
  std::string name;
};

// Gives each (entity, name) a small number, in order of first appearance. Entries never move or change, so
// that a reader may keep using those it has seen while another thread adds more.
class KeyTable {
 public:
  std::uint32_t intern(std::string_view entity, std::string_view name);
  const Key& operator[](std::size_t id) const { return keys_[id]; }
  std::size_t size() const { return keys_.size(); }

 private:
  struct View {
    std::string_view entity, name;
    bool operator==(const View&) const = default;
  };
  struct Hash {
    std::size_t operator()(const View& view) const {
      const std::size_t first = std::hash<std::string_view>{}(view.entity);
      return first ^ (std::hash<std::string_view>{}(view.name) + 0x9e3779b97f4a7c15u + (first << 6));
    }
  };
  std::deque<Key> keys_;
  std::unordered_map<View, std::uint32_t, Hash> ids_;
};

// Exact texts, or prefixes if they end in '*'. None at all matches everything.
class TextFilter {
 public:
  explicit TextFilter(std::span<const std::string> patterns);
  bool matches(std::string_view text) const;

 private:
  bool all_;
  std::vector<std::string> exact_;  // sorted
  std::vector<std::string> prefixes_;
};

inline std::uint32_t kind_bit(Kind kind) { return 1u << (static_cast<std::uint32_t>(kind) & 31u); }

class Matcher {
 public:
  explicit Matcher(const Query& query);

  std::int64_t from_ns() const { return from_ns_; }
  std::int64_t to_ns() const { return to_ns_; }
  std::uint32_t kinds() const { return kinds_; }
  bool time(std::int64_t ns) const { return ns >= from_ns_ && ns < to_ns_; }
  bool kind(Kind kind) const { return (kinds_ & kind_bit(kind)) != 0; }
  bool key(std::string_view entity, std::string_view name) const {
    return entities_.matches(entity) && names_.matches(name);
  }
  bool severity(std::uint8_t severity) const { return severity >= severity_min_; }
  // Only events with a body or attributes can match.
  bool needs_detail() const { return !text_.empty() || !attributes_.empty(); }
  bool detail(const Attributes& attributes, std::string_view body) const;
  bool event(const Event& event) const;

 private:
  std::int64_t from_ns_, to_ns_;
  std::uint32_t kinds_;
  std::uint8_t severity_min_;
  TextFilter entities_, names_;
  std::string text_;  // lower case
  Attributes attributes_;
};

// Collects values by (entity, name). Sums are made in order of size, so that they do not depend on the order
// in which blocks were read.
class Grouper {
 public:
  std::uint32_t slot(std::string_view entity, std::string_view name);
  void add(std::uint32_t slot, std::int64_t time_ns, double value);
  std::vector<Group> finish();

 private:
  struct Values {
    std::uint64_t count = 0;
    std::int64_t first_ns = 0, last_ns = 0;
    std::vector<double> numbers;
  };
  KeyTable keys_;
  std::vector<Values> values_;
};

inline double seconds_between(std::int64_t from_ns, std::int64_t to_ns) {
  return (static_cast<double>(to_ns) - static_cast<double>(from_ns)) / 1e9;
}
// The answer of differs() from the groups of both windows.
std::vector<Difference> compare(const std::vector<Group>& before, double before_s, const std::vector<Group>& now,
                                double now_s);

}  // namespace culprit::stream
