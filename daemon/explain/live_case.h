// Live case: the part of a scene that the evidence blocks read, in the form in which they read recorded incidents
// (recorded/case.h): series of services, spans, log lines, calls and the symptom. So live and recorded incidents go through
// the same blocks and the same learned weights.
#pragma once

#include "daemon/base/result.h"
#include "daemon/explain/recorded/case.h"
#include "daemon/explain/scene.h"

namespace culprit::explain {

inline constexpr std::size_t kLiveServicesMax = 64;    // candidates: those that the trouble can reach come first
inline constexpr std::size_t kLiveSpansMax = 20'000;   // of each, healthy and of the incident; the newest
inline constexpr std::size_t kLiveLinesMax = 10'000;
inline constexpr std::size_t kLiveLineBytesMax = 600;  // of a line; the miner reads no more

// What a failed span says went wrong: its message; "" if it has none.
std::string_view span_message(const stream::Event& event);
// The same, or its error's type or status.
std::string_view span_error(const stream::Event& event);

// Times are the stream's. Errors: those of the store.
Result<RecordedCase> live_case(const stream::EventStore& store, const Scene& scene);

}  // namespace culprit::explain
