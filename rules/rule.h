// Rules: what to look for across the stream, what it blames, how it is told. A rule is data (YAML), with its own
// test cases. docs/rules.md teaches it, rules/schema/rule.schema.json lets editors complete it.
//
//   rule: pg-lock-wait
//   status: stable                  # sandbox | incubating | stable | deprecated; only stable is on by default
//   summary: A session holds a lock that others wait for
//   match:                          # all must hold; the first that is neither `optional` nor `absent` is the anchor
//     - {id: wait, log: '', regex: 'process (?P<pid>\d+) still waiting for (?P<lock>\w+)'}
//     - {id: slow, metric: request.duration.p99, above: 0.5, within: 60s around wait, optional: true, weight: 1.0}
//     - {id: deadlock, absent: {log: '', text: deadlock detected}, within: 60s around wait}
//   paths: ["slow.entity -calls-> wait.entity"]   # along the topology; a name between arrows may be anything
//   joins: ["slow.service == wait.service"]       # values that must agree
//   blame: "wait.entity"            # "<match id>.<entity | name | attribute | regex group>"
//   cause: postgresql/lock-wait     # failure mode of the knowledge graph
//   weight: 2.5                     # log-odds to begin with; people's verdicts move it unless `pinned: true`
//   explain: "process {wait.pid} waits for {wait.lock}"
//   next: [SELECT … FROM pg_locks]  # commands to run next
//   false_positives: [a long migration that is planned]
//   source: PostgreSQL manual, log_lock_waits
//   tests:
//     - name: a session waits
//       events:
//         - {at: 0s, log: shop, entity: service:postgres, body: 'LOG:  process 71 still waiting for …'}
//         - {metric: request.duration.p99, entity: service:shop, series: "3ms x60, 800ms x30"}
//       expect: {cause: postgresql/lock-wait, blame: service:postgres}
//
// Other documents of a rules folder: `list: NAME` with `items`, used as `$NAME` in `where`; `macro: NAME` with `match`
// keys, used by `use: NAME`; `disable: RULE` with a `reason`. Order: built-in files, then the folder's by path; a later
// document replaces an earlier one of the same name, also for the rules that came before it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/stream/event.h"
#include "daemon/stream/filter.h"

namespace culprit::rules {

using stream::Kind;
std::string_view kind_key(Kind kind);  // the key in YAML: "metric", "log", …

enum class Status : std::uint8_t { Sandbox, Incubating, Stable, Deprecated };
std::string_view status_name(Status status);

enum class When : std::uint8_t { Any, Before, After, Around };

class Regex;  // compiled RE2, rules/regex.h

struct AttributeMatch {
  std::string attribute{};
  std::vector<std::string> globs{};  // any of them
};

struct MatchItem {
  std::string id{};
  Kind kind = Kind::Sample;
  std::string name{};    // glob; empty = any
  std::string entity{};  // glob; empty = any
  std::string text{};    // substring of the body, case ignored
  std::string regex{};
  std::string filter_text{};
  stream::Filter filter{};  // the language of `culprit events`
  std::shared_ptr<const Regex> compiled{};  // shared by the copies of an immutable rule
  // Of text, regex and filter: no body without one of them (lower case) can match; empty = every body must be tried.
  std::vector<std::string> literals{};
  std::vector<AttributeMatch> where{};
  std::optional<double> above{}, below{};
  std::optional<double> times_normal{};  // of a sample: above this multiple of its series' normal (rules/normal.h)
  When when = When::Any;
  std::int64_t within_ns = 0;
  std::size_t of = 0;  // index of the item that `within` speaks of
  bool optional = false;
  bool absent = false;
  bool same_entity = false;  // as the anchor's
  std::size_t least = 1;     // so many events must fit (of the anchor: with the same blame)
  double weight = 1.0;       // optional items add theirs to the finding's score
  int line = 0;
};

struct Reference {
  std::string id{}, field{}, unit{};  // unit may be empty
};

// "a.x == b.y"
struct Join {
  Reference left{}, right{};
  std::string text{};
};

// "a.entity -calls-> b.entity -writes-> disk.entity"; a stop without an id is free.
struct Path {
  struct Stop {
    std::optional<Reference> reference{};
    std::string relation{};  // to the next stop; empty at the last
    bool backwards = false;  // "<-calls-"
  };
  std::vector<Stop> stops{};
  std::string text{};
};

struct Expectation {
  bool fires = false;
  std::string cause{}, explain{};     // of the heaviest finding; empty = not checked
  std::vector<std::string> blame{};   // everybody who is blamed, sorted; empty = not checked
  std::optional<double> weight{};     // with the optional items that hold
};

struct RuleTest {
  std::string name{};
  std::vector<stream::Event> events{};
  std::vector<std::string> topology{};  // "shop -calls-> postgres"
  Expectation expect{};
  std::string todo{};  // why it is known to fail; such a test does not count
  int line = 0;
};

struct Rule {
  std::string id{};
  Status status = Status::Sandbox;
  std::string summary{};
  std::vector<MatchItem> match{};
  std::size_t anchor = 0;
  std::vector<Join> joins{};
  std::vector<Path> paths{};
  std::string blame{};  // template: "kill.cgroup" or "service:{kill.service}"
  std::string cause{};  // canonical failure mode id
  double weight = 1.0;  // log-odds that a firing adds to its candidate
  bool pinned = false;  // verdicts do not move the weight
  std::string explain{};
  std::vector<std::string> next{};  // commands, templates
  std::vector<std::string> false_positives{};
  std::string source{};
  std::vector<RuleTest> tests{};
  std::string origin{};    // file:line
  std::string matches{};   // hash of all that decides what it matches and blames: equal = evidence gathered for one is the other's
};

std::string hash_of_matches(const Rule& rule);

}  // namespace culprit::rules
