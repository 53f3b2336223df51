// Registry: the list of all live channels and maps, for `culprit status`.
//
// An object registers itself when it is made and leaves in its destructor; the registry owns nothing and must
// outlive what it lists (main makes it first). Threads: any. `snapshot` asks each object for its own numbers
// while it holds the registry's lock, so no object can vanish meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "daemon/concurrent/stats.h"

namespace culprit::concurrent {

class Registry {
 public:
  struct Snapshot {
    std::vector<ChannelStats> channels;  // in order of creation
    std::vector<MapStats> maps;
  };

  Snapshot snapshot() const;

 private:
  friend class Registration;
  std::uint64_t add(std::function<ChannelStats()> stats);
  std::uint64_t add(std::function<MapStats()> stats);
  void remove(std::uint64_t id);

  mutable std::mutex mutex_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, std::function<ChannelStats()>> channels_;
  std::map<std::uint64_t, std::function<MapStats()>> maps_;
};

// One object's place in a registry (which may be none), left on destruction.
class Registration {
 public:
  Registration() = default;
  template <typename Stats>
  Registration(Registry* registry, std::function<Stats()> stats) : registry_(registry) {
    if (registry_ != nullptr) id_ = registry_->add(std::move(stats));
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
  ~Registration() { leave(); }

  void leave() {
    if (registry_ != nullptr) registry_->remove(id_);
    registry_ = nullptr;
  }

 private:
  Registry* registry_ = nullptr;
  std::uint64_t id_ = 0;
};

}  // namespace culprit::concurrent
