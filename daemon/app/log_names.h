// LogNames: what kinds of lines there are and where each was seen, kept over restarts.
// Threads: name, load and save by the stream thread, which holds the lock over a batch; the others by anybody, for a moment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/mutex.h"
#include "daemon/logs/miner.h"
#include "daemon/logs/sightings.h"
#include "daemon/stream/event.h"

namespace culprit::app {

// What is known of a kind of line at an entity, beyond what is stored.
struct KnownPattern {
  std::string name;  // of the template that it is part of now
  std::string text;  // as it is now; empty if it was forgotten
  std::optional<logs::Sighting> sighting;
  std::int64_t began_wall_ns = 0;  // of the first line of all
};

class LogNames {
 public:
  explicit LogNames(std::filesystem::path folder) : folder_(std::move(folder)) {}  // empty: nothing is kept over restarts

  // What cannot be read is begun anew: ids may then differ from before, nothing else.
  void load();
  // Once a minute if there is a new kind of line, so that a crash costs little; and at the end.
  void save(std::int64_t now_ns, bool last);

  // Gives each line that has no name the one of its template, and a severity where the source told none.
  void name(std::vector<stream::Event>& events, std::int64_t wall_offset_ns);

  logs::MinerStats stats() const;
  KnownPattern pattern(std::string_view name, std::string_view entity) const;

 private:
  std::filesystem::path folder_;
  mutable Mutex mutex_;
  logs::Miner miner_ GUARDED_BY(mutex_);
  logs::Sightings sightings_ GUARDED_BY(mutex_);
  std::uint64_t saved_templates_ = 0;  // made and merged, when they were last saved
  std::int64_t saved_ns_ = 0;
};

}  // namespace culprit::app
