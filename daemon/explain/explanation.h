// Explanation: the answer, as docs/api.md "Explanation" writes it. Plain data; json.h turns it into the document.
// Times are CLOCK_BOOTTIME in nanoseconds; `wall_offset_ns` is what to add for display.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/detect/incident.h"
#include "daemon/explain/knowledge.h"

namespace culprit::explain {

enum class Verdict : std::uint8_t { Explained, Inconclusive, Healthy };

struct Evidence {
  std::int64_t time_ns = 0;
  std::string text;                  // "shop waits on postgres 97 % of its time (normal 4 %)"
  std::vector<std::string> sources;  // "kernel", "postgres log", "1,204 requests"
  double weight = 0;                 // log-odds; negative if it speaks against
  bool supports = true;              // "for" in the document

  bool operator==(const Evidence&) const = default;
};

struct Trigger {
  std::int64_t time_ns = 0;
  std::string text;

  bool operator==(const Trigger&) const = default;
};

struct RankedCause {
  int rank = 0;  // from 1
  std::string entity;
  std::string service;       // that holds the blamed entity
  std::int64_t pid = 0;      // 0 = none
  std::string process;       // the program's name
  std::string failure_mode;  // "postgresql/lock-wait"
  std::vector<std::string> also;
  std::string title;
  double confidence = 0;     // 0 to 1
  std::optional<Trigger> trigger;
  std::vector<Evidence> evidence;      // in time order
  std::vector<std::string> ruled_out;  // "cpu (run-queue wait 300 us)"
  std::vector<std::string> next;       // commands to run, or what to do

  bool operator==(const RankedCause&) const = default;
};

// How much of what should have been seen was seen in the incident's window. The caller knows the counters.
struct Completeness {
  double share = 1;  // 0 to 1
  std::string text;  // empty: explain writes one
  std::map<std::string, std::uint64_t> dropped;  // events lost, by reason
  std::vector<std::string> blind;                // probes and sources that saw nothing: "block", "log of redis"

  bool operator==(const Completeness&) const = default;
};

struct Explanation {
  std::uint64_t incident = 0;  // 0 = none was opened
  std::string service;
  detect::IncidentState state = detect::IncidentState::Open;
  Verdict verdict = Verdict::Healthy;
  std::string headline;
  std::vector<detect::Symptom> symptoms;
  std::vector<RankedCause> candidates;  // best first
  Completeness completeness;
  std::optional<std::string> inconclusive;  // what to collect
  std::vector<RuleHit> rules_fired;         // in the incident's window, heaviest first, whatever became of their blame
  std::string rules_hash;                   // of the rule set that was asked; empty = none was
  std::int64_t wall_offset_ns = 0;

  bool operator==(const Explanation&) const = default;
};

}  // namespace culprit::explain
