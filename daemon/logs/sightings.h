// Sightings: when a kind of line was first and last seen at an entity, and how often; kept over restarts beside the templates.
//
// What is new is what was never seen at that entity, not what happens to be absent from the days that are stored. Times are wall times,
// since boots come and go. Limit: entries_max; when full, the half that was not seen for longest is forgotten, counted. Threads: one owner.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::logs {

struct Sighting {
  std::int64_t first_wall_ns = 0, last_wall_ns = 0;
  std::uint64_t lines = 0;
};

class Sightings {
 public:
  explicit Sightings(std::size_t entries_max = 200'000) : entries_max_(entries_max) {}

  void add(std::uint64_t template_id, std::string_view entity, std::int64_t wall_ns);
  // `from` became part of `into`.
  void merge(std::uint64_t from, std::uint64_t into);
  const Sighting* find(std::uint64_t template_id, std::string_view entity) const;  // null if never, or forgotten
  std::int64_t began_wall_ns() const { return began_wall_ns_; }  // the first of all; 0 if there was none
  std::size_t size() const { return size_; }
  std::uint64_t forgotten() const { return forgotten_; }

  // Errors of load: Corrupt, with the offset.
  std::string save() const;
  static Result<Sightings> load(std::string_view saved, std::size_t entries_max = 200'000);

 private:
  struct Row {
    std::uint64_t entity = 0;  // its hash
    Sighting sighting;
  };
  Sighting& at(std::uint64_t template_id, std::uint64_t entity, std::int64_t wall_ns);
  void make_room();

  std::size_t entries_max_;
  std::int64_t began_wall_ns_ = 0;
  std::uint64_t forgotten_ = 0;
  std::size_t size_ = 0;  // rows
  std::unordered_map<std::uint64_t, std::vector<Row>> rows_;  // by template; each sorted by entity
};

}  // namespace culprit::logs
