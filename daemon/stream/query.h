// Query: what both stores share of answering one: the compiled filter, and grouping.
#pragma once

#include <span>

#include "daemon/stream/rows.h"
#include "daemon/stream/store.h"

namespace culprit::stream {

// Exact texts, or prefixes if they end in '*'. None at all matches everything.
class TextFilter {
 public:
  explicit TextFilter(std::span<const std::string> patterns);
  bool matches(std::string_view text) const;
  bool all() const { return all_; }
  // Empty if a prefix is among them.
  std::span<const std::string> exact() const { return prefixes_.empty() ? std::span(exact_) : std::span<const std::string>(); }

 private:
  bool all_;
  std::vector<std::string> exact_;  // sorted
  std::vector<std::string> prefixes_;
};

inline std::uint32_t kind_bit(Kind kind) { return 1u << (static_cast<std::uint32_t>(kind) & 31u); }

// A Query, compiled: its own fields and the bounds of its filter.
class Matcher {
 public:
  explicit Matcher(const Query& query);

  std::int64_t from_ns() const { return from_ns_; }
  std::int64_t to_ns() const { return to_ns_; }
  std::uint32_t kinds() const { return kinds_; }
  bool minutes() const { return minutes_; }
  bool time(std::int64_t ns) const { return ns >= from_ns_ && ns < to_ns_; }
  bool kind(Kind kind) const { return (kinds_ & kind_bit(kind)) != 0; }
  bool key(std::string_view entity, std::string_view name) const {
    return entities_.matches(entity) && names_.matches(name) && bound_entities_.matches(entity) && bound_names_.matches(name);
  }
  bool key(const Key& key_of) const { return kind(key_of.kind) && key(key_of.entity, key_of.name); }
  bool severity(std::uint8_t severity) const { return severity >= severity_min_; }
  // Only events with a body or attributes can match.
  bool needs_detail() const { return !text_.text().empty() || !attributes_.empty() || !bound_texts_.empty() || !bound_attributes_.empty(); }
  // What a match must look at beside time, key and severity.
  bool reads_attributes() const { return !attributes_.empty() || filter_.reads_attributes(); }
  bool reads_body() const { return !text_.text().empty() || filter_.reads_body(); }
  bool reads_ids() const { return filter_.reads_ids(); }
  // Nothing but time, key and severity decides.
  bool simple() const { return !needs_detail() && filter_.empty() && sample_ <= 1; }
  bool detail(const Attributes& attributes, std::string_view body) const;
  bool detail(const Detail* detail) const;  // null: an event with neither
  // Time, key and severity match already.
  bool rest(const Hit& hit) const {
    return (!needs_detail() || detail(hit.detail)) && (filter_.empty() || filter_.matches(hit.view())) &&
           (sample_ <= 1 || sampled(hit.time_ns, hit.key->entity, hit.key->name));
  }
  bool event(const Event& event) const;
  bool sampled(std::int64_t time_ns, std::string_view entity, std::string_view name) const;

  // For what a store keeps beside its blocks: parts of the body of every match, in lower case; entities and names of
  // which every match has one (only if none is a prefix).
  std::vector<std::string_view> texts() const;
  const TextFilter& entities() const { return entities_; }
  const TextFilter& names() const { return names_; }
  const TextFilter& bound_entities() const { return bound_entities_; }
  const TextFilter& bound_names() const { return bound_names_; }

 private:
  std::int64_t from_ns_, to_ns_;
  std::uint32_t kinds_;
  std::uint8_t severity_min_;
  TextFilter entities_, names_, bound_entities_, bound_names_;
  LowerText text_;
  std::vector<std::pair<std::string, std::string>> attributes_, bound_attributes_;  // all must be equal
  std::vector<LowerText> bound_texts_;
  std::uint32_t sample_;
  bool minutes_;
  Filter filter_;
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
