// Incident: symptoms that belong together in time and topology. Plain data: detect fills it, explain reads it,
// an export carries it. Times are CLOCK_BOOTTIME in nanoseconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace culprit::detect {

// A deviation that a user of the service would feel.
struct Symptom {
  std::string entity;       // "service:shop"
  std::string series;       // "request.duration.p99", "process.crashes", ...
  std::int64_t since_ns = 0;  // first second in which it deviated
  std::int64_t last_ns = 0;   // last second in which it deviated
  double value = 0;         // the worst typical value since then (not a single outlier)
  double normal = 0;        // what it was before; 0 if it was not there
  std::string unit;         // "s", "1/s", "share", "1"
  double score = 0;         // how many times over its bar; >= 1
  std::string text;         // "p99 1.84 s (normal 20 ms)"

  bool operator==(const Symptom&) const = default;
};

enum class IncidentState : std::uint8_t { Open, Closed };

struct Incident {
  std::uint64_t id = 0;               // 0 = not an incident of the list: an examination on demand
  IncidentState state = IncidentState::Open;
  std::string service;                // the service asked about: the most upstream one with a symptom, without "service:"
  std::vector<std::string> services;  // all with a symptom, sorted
  std::int64_t onset_ns = 0;          // earliest `since` of its symptoms
  std::int64_t wave_ns = 0;           // start of its latest wave: strong again after a quiet while; the onset at first
  std::int64_t opened_ns = 0;         // when it passed the bar
  std::int64_t last_symptom_ns = 0;   // last second with a symptom
  std::int64_t closed_ns = 0;         // 0 while open
  std::vector<Symptom> symptoms;      // worst first

  bool healthy() const { return symptoms.empty(); }
  bool operator==(const Incident&) const = default;
};

}  // namespace culprit::detect
