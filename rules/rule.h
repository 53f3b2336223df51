// Rules: what to look for across the stream, what it blames, how it is told. A rule is data (YAML, one
// file each), with its own test cases.
//
//   rule: pg-lock-wait
//   status: stable                  # sandbox | incubating | stable | deprecated; only stable is on by default
//   summary: A session holds a lock that others wait for
//   match:                          # all must hold; the first that is not `optional` is the anchor
//     - {id: wait, log: '', regex: 'process (?P<pid>\d+) still waiting for (?P<lock>\w+)'}
//     - {id: slow, metric: request.duration.p99, above: 0.5, within: 60s around wait, optional: true}
//   blame: "wait.entity"            # "<match id>.<entity | name | attribute | regex group>"
//   cause: postgresql/lock-wait     # failure mode of the knowledge graph
//   explain: "process {wait.pid} waits for {wait.lock}"
//   source: PostgreSQL manual, log_lock_waits
//   tests:
//     - name: a session waits
//       events:
//         - {at: 0s, log: shop, entity: service:postgres, body: 'LOG:  process 71 still waiting for …'}
//       expect: {cause: postgresql/lock-wait, blame: service:postgres}
//
// `match` entries name exactly one source: log, metric, kernel, change, span or alert, with a glob over the
// event's name ('' = any). Conditions: entity (glob), text (substring, case ignored), regex, above, below,
// where: {attribute: glob}, same_entity: true (as the anchor's), least: n (so many), not: true (absence),
// optional: true with weight: w, within: "<duration> before|after|around <match id>" (around the anchor by default).
//
// Templates put values in: {wait.pid}, {limit.value:bytes|seconds|percent|count}. A field is a regex group, else entity,
// name, value or body, else an attribute.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::rules {

// Mirrors stream::Kind, which rules must not include; the values agree.
enum class Kind : std::uint8_t { Sample = 1, Log = 2, Span = 3, Kernel = 4, Change = 5, Alert = 6 };
std::string_view kind_key(Kind kind);  // the key in YAML: "metric", "log", …

// One event as rules see it. The caller keeps the strings alive while the evaluator looks at it.
struct Observation {
  std::int64_t time_ns = 0;
  Kind kind = Kind::Sample;
  std::string entity{};
  std::string name{};
  double value = 0;
  std::string body{};
  std::vector<std::pair<std::string, std::string>> attributes{};
  std::uint64_t ref = 0;  // the caller's own handle, handed back in findings

  std::string_view attribute(std::string_view key) const {
    for (const auto& [name_of, text] : attributes) {
      if (name_of == key) return text;
    }
    return {};
  }
};

enum class Status : std::uint8_t { Sandbox, Incubating, Stable, Deprecated };
std::string_view status_name(Status status);

enum class When : std::uint8_t { Any, Before, After, Around };

class Regex;  // compiled RE2, rules/regex.h

struct MatchItem {
  std::string id{};
  Kind kind = Kind::Sample;
  std::string name{};    // glob; empty = any
  std::string entity{};  // glob; empty = any
  std::string text{};
  std::string regex{};
  std::shared_ptr<const Regex> compiled{};  // shared by the copies of an immutable rule
  std::vector<std::pair<std::string, std::string>> where{};  // attribute -> glob
  std::optional<double> above{}, below{};
  When when = When::Any;
  std::int64_t within_ns = 0;
  std::size_t of = 0;  // index of the item that `within` speaks of
  bool optional = false;
  bool negated = false;
  bool same_entity = false;  // as the anchor's
  std::size_t least = 1;     // so many observations must fit (of the anchor: with the same blame)
  double weight = 1.0;       // optional items add theirs to the finding's score
};

struct Expectation {
  bool fires = false;
  std::string cause{}, blame{}, explain{};  // empty = not checked
};

struct RuleTest {
  std::string name{};
  std::vector<Observation> events{};
  Expectation expect;
  int line = 0;
};

struct Rule {
  std::string id{};
  Status status = Status::Sandbox;
  std::string summary{};
  std::vector<MatchItem> match{};
  std::size_t anchor = 0;
  std::string blame{};    // template: "kill.cgroup" or "service:{kill.service}"
  std::string cause{};    // canonical failure mode id
  double weight = 1.0;  // log-odds that a firing adds to its candidate
  std::string explain{};
  std::string next{};     // command to run next, may be empty
  std::string source{};
  std::vector<RuleTest> tests{};
  std::string origin{};  // file:line
};

}  // namespace culprit::rules
