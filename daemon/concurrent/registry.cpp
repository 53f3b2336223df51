#include "daemon/concurrent/registry.h"

namespace culprit::concurrent {

Registry::Snapshot Registry::snapshot() const {
  const std::lock_guard lock(mutex_);
  Snapshot all;
  all.channels.reserve(channels_.size());
  all.maps.reserve(maps_.size());
  for (const auto& [id, stats] : channels_) all.channels.push_back(stats());
  for (const auto& [id, stats] : maps_) all.maps.push_back(stats());
  return all;
}

std::uint64_t Registry::add(std::function<ChannelStats()> stats) {
  const std::lock_guard lock(mutex_);
  channels_.emplace(next_id_, std::move(stats));
  return next_id_++;
}

std::uint64_t Registry::add(std::function<MapStats()> stats) {
  const std::lock_guard lock(mutex_);
  maps_.emplace(next_id_, std::move(stats));
  return next_id_++;
}

void Registry::remove(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  channels_.erase(id);
  maps_.erase(id);
}

}  // namespace culprit::concurrent
