// Examine: the answer to "why is X slow?" when no incident is open: looks for symptoms of one service in a window
// of the stream, with the same bars as detection. An incident without symptoms (`healthy()`) means: nothing wrong.
#pragma once

#include <cstdint>
#include <string_view>

#include "daemon/base/result.h"
#include "daemon/detect/incident.h"
#include "daemon/stream/store.h"

namespace culprit::detect {

// Replays [from_ns - 5 min, to_ns) through a fresh Detector and picks what concerns `service` in [from_ns, to_ns):
// an open incident before a closed one, then the latest. Without one it is the empty incident of that service with id 0.
Result<Incident> examine(const stream::EventStore& store, std::string_view service, std::int64_t from_ns,
                         std::int64_t to_ns);

}  // namespace culprit::detect
