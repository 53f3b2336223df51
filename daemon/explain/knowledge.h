// What explain asks of knowledge and rules: small seams, so that it works with the stream alone. main.cpp puts the
// knowledge graph and the rule set behind them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/verdicts.h"

namespace culprit::explain {

// A log line or kernel text that a failure mode is known by.
struct ModeMatch {
  std::string id;          // "pg-lock-wait"
  std::string middleware;  // "postgresql"
  std::string name;        // "Long lock waits behind DDL or idle transaction"
  double weight = 0;       // 0 to 1: how surely the text means the mode
};

class Knowledge {
 public:
  virtual ~Knowledge() = default;
  // Best first, few. `program` is the writer's executable name, if known.
  virtual std::vector<ModeMatch> match(std::string_view text, std::string_view program) const = 0;
  // What to do about a mode, best first, few: "end the oldest idle-in-transaction sessions".
  virtual std::vector<std::string> mitigations(std::string_view mode_id) const = 0;
  // A mode is given by its names, the surest first; one that is not known is no effect and brings nothing about.
  // Is it what a caller or a health check says of one that fails: that it does, not why?
  virtual bool is_effect(std::span<const std::string_view> names) const = 0;
  virtual bool brings_about(std::span<const std::string_view> cause, std::span<const std::string_view> effect) const = 0;
};

using culprit::Verdicts;  // on earlier answers that named a failure mode

// A rule that fired.
struct RuleHit {
  std::int64_t time_ns = 0;
  std::string rule;          // "oom-kill"
  std::string entity;        // blamed: "service:shop", "process:4211"
  std::string failure_mode;  // "linux-kernel/cgroup-oom" or an id such as "lx-cgroup-oom"
  std::string text;          // the rule's own explanation
  double weight = 2.0;       // log-odds

  bool operator==(const RuleHit&) const = default;
};

}  // namespace culprit::explain
