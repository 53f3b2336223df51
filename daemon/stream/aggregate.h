// Aggregate: events to numbers. `count, sum, rate, min, max, quantiles, latest` per group and time bucket, the
// first k of them; and what differs most between two windows. Both stores fill the same builders.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/stream/rows.h"
#include "daemon/stream/sketch.h"
#include "daemon/stream/store.h"

namespace culprit::stream {

class AggregateBuilder {
 public:
  explicit AggregateBuilder(const Aggregation& what);
  // Nothing but entity, name and kind names a group, so that one slot holds for a whole run of a block.
  bool by_key() const { return by_key_; }
  bool reads_attributes() const { return reads_attributes_; }
  bool reads_severity() const { return reads_severity_; }

  std::uint32_t slot(const RowView& row);  // without the time bucket
  void add(std::uint32_t slot, std::int64_t time_ns, double value);
  void add(const RowView& row) { add(slot(row), row.time_ns, row.value); }
  AggregateAnswer finish(Completeness completeness);

 private:
  const Aggregation& what_;
  bool by_key_ = true, reads_attributes_ = false, reads_severity_ = false;
  std::string scratch_;
  std::vector<std::vector<std::string>> groups_;  // by slot
  std::unordered_map<std::string, std::uint32_t> slots_;
  std::map<std::pair<std::uint32_t, std::int64_t>, AggregateRow> buckets_;  // with buckets
  std::vector<AggregateRow> rows_;                                           // without
  std::uint64_t groups_left_out_ = 0;
};

// Counts what two windows hold, value by value.
class ContrastBuilder {
 public:
  ContrastBuilder(Window before, Window now) : windows_{before, now} {}

  struct Moments {
    std::uint64_t count[2] = {0, 0}, numbers[2] = {0, 0};
    double sum[2] = {0, 0}, squares[2] = {0, 0};
    std::int64_t first_now_ns = INT64_MAX;
  };
  Moments& key(const Key& key);                                                         // stays where it is
  static void add(Moments& moments, int window, std::int64_t time_ns, double value);  // window: 0 before, 1 now
  void add_attributes(int window, std::string_view coded, std::uint64_t times);
  void add(int window, const RowView& row);
  void add(const ContrastBuilder& other);  // what it counted of other events in the same windows
  ContrastAnswer finish(std::size_t limit, Completeness before, Completeness now);

 private:
  struct Counts {
    std::uint64_t count[2] = {0, 0};
  };
  struct Field {  // an attribute, and its texts by number
    std::string name;
    HashIndex index;
    std::vector<std::string> texts;
    std::vector<Counts> counts;
    bool too_many = false;
  };
  Field* field(std::size_t place, std::string_view name);  // null: there are too many
  static void add(Field& field, std::string_view text, const Counts& counts);

  Window windows_[2];
  KeyTable keys_;
  std::deque<Moments> moments_;
  std::map<std::string, Field, std::less<>> fields_;
  static constexpr std::size_t kPlaces = 32;
  std::array<Field*, kPlaces> last_at_{};  // of each place in a list: lists that follow each other differ in texts, rarely in names
};

}  // namespace culprit::stream
