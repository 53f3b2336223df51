// Convert: the few places where one module's plain data becomes another's, so that neither must know the other.
#pragma once

#include <span>
#include <vector>

#include "daemon/base/config.h"
#include "daemon/collect/collector.h"
#include "daemon/sensor/facts.h"
#include "daemon/track/tracker.h"

namespace culprit::app {

track::ProcessFacts to_facts(const sensor::ProcessInfo& info);
std::vector<track::FilesystemFacts> to_facts(std::span<const sensor::FilesystemSpace> spaces);
track::CgroupFacts to_facts(const sensor::CgroupLimits& limits);
track::TrackerOptions tracker_options(const Config& config);
void give_snapshot(track::Tracker& tracker, const sensor::Snapshot& snapshot);
void add_counts(collect::CollectorCounts& to, const collect::CollectorCounts& from);

}  // namespace culprit::app
