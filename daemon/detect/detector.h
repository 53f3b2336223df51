// Detector: reads each second of the stream once and says which services show a symptom, since when.
//
// Only what a user of a service feels is a symptom: latency, errors, throughput lost while there is demand,
// unanswered requests growing old, crashes, restart loops, refused connections. CPU, disk and the like are
// signals, which explain reads; they never open an incident by themselves.
//
// The idea: per symptom series a window of healthy seconds gives a median and a spread (MAD). A second passes the
// bar if it is far outside both the spread and an absolute floor, so that tiny values never alarm. A passing
// second adds points (strong deviations more), a normal one takes points away; an incident opens at
// kOpenPoints. While a series deviates its window does not learn. Hard facts (a crash, refused connections to a
// service that was in use, a fifth of the answers broken) need no learned normal.
//
// Limits: kServicesMax services, kIncidentsMax open incidents; what does not fit is counted.
// Threads: one (detect). Cost: some microseconds per service and second.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/detect/incident.h"
#include "daemon/stream/event.h"

namespace culprit::detect {

struct DetectorOptions {
  int warm_up_s = 30;          // seconds with load before a learned bar counts
  int close_after_s = 25;      // seconds without a symptom before an incident closes
  int relearn_after_s = 900;   // a level that stays this long is the new normal
  std::uint64_t first_incident_id = 1;  // ids continue after a restart
};

struct IncidentUpdate {
  enum class What : std::uint8_t { Opened, Changed, Closed };
  What what;
  Incident incident;
};

struct DetectorStats {
  std::uint64_t seconds = 0, samples = 0;
  std::uint64_t services = 0;
  std::uint64_t services_refused = 0, incidents_refused = 0, alerts_refused = 0;  // over a limit
  std::uint64_t incidents_opened = 0;
};

class Detector {
 public:
  static constexpr std::size_t kServicesMax = 2'000;
  static constexpr std::size_t kIncidentsMax = 64;  // open at once

  explicit Detector(DetectorOptions options = {});
  ~Detector();
  Detector(Detector&&) noexcept;
  Detector& operator=(Detector&&) noexcept;

  // All events of one second, whose end is `second_ns`; kinds it does not need are skipped. Seconds must come in
  // order; call it every second, also with no events (silence is information).
  std::vector<IncidentUpdate> on_samples(std::int64_t second_ns, std::span<const stream::Event> events);

  std::vector<Incident> open_incidents() const;
  // Goes on with incidents that were open before a restart.
  void restore(std::span<const Incident> incidents);
  DetectorStats stats() const;

  // Seconds of load seen, up to warm_up_s: 30 of 30 = it knows what is normal. Nothing if never seen.
  std::optional<int> learned_s(std::string_view service) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace culprit::detect
