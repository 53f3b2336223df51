// Packs: what is known about how a middleware fails, one YAML file each, as data.
//
//   schema: 1
//   middleware: postgresql
//   title: PostgreSQL
//   programs: [postgres]                 # names of processes that are it
//   ports: [5432]
//   failure_modes:
//     - id: lock-wait                    # postgresql/lock-wait
//       aliases: [pg-lock-wait]
//       name: Long lock waits behind DDL or an idle transaction
//       severity: 4                      # 1 cosmetic .. 5 outage
//       effect: true                     # what a caller or a health check says of one that fails: that it does, not why
//       summary: ...
//       symptoms: [{id: log-still-waiting, literal: still waiting for, regex: '…', weight: 0.9, example: '…', produced: package version}]
//       causes: [{id: migration, text: …, prior: 0.4, from: [other-mode]}]
//       mitigations: [{id: end-blocker, kind: immediate, risk: medium, text: …, command: …}]
//       versions: [{range: '>=14', effect: …, confidence: 0.9, source: where it was looked up}]
//       cloud: [{provider: aws, service: RDS, effect: …, confidence: 0.8}]
//       causes_modes: [{to: nginx/upstream-timeout, confidence: 0.5}]
//       paraphrases: [statements hang]
//       sources: [{kind: manual, ref: …}]
//
// Unknown keys, wrong types, bad regexes, examples that their own symptom does not match and dangling
// references are errors with file:line:column, the line with a caret, and the nearest key. Loading never throws and is bounded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::graph {

inline constexpr std::size_t kPackBytesMax = 1U << 20U;
inline constexpr std::size_t kPacksMax = 1'000;
inline constexpr std::size_t kModesMax = 20'000;

enum class Channel : std::uint8_t { Log, Metric, Kernel, Event, Wire };
std::string_view channel_name(Channel channel);

struct Symptom {
  std::string id{};
  Channel channel = Channel::Log;
  std::string literal{};  // must occur (ASCII case ignored) before the regex is tried; empty = none
  std::string regex{};    // RE2 syntax; empty = the literal alone decides
  std::string expr{};     // for people and later engines: metric, kernel and wire conditions
  double weight = 1.0;  // (0, 1]: how much one sighting says for this mode
  std::string example{};
  std::string produced{};  // the package and version that printed the example for real; empty = not tried (tests/knowledge/produce)
};

// What a sighting looks like, for search and training: the example where its literal is (real lines carry much that is not about
// the failure), else literal and condition.
std::string telling_part(const Symptom& symptom);

struct Cause {
  std::string id{};
  std::string text{};
  double prior = 0;               // share of cases, 0 = not known
  std::vector<std::string> from{};  // modes that bring this cause about, by canonical id
};

struct Mitigation {
  std::string id{};
  std::string kind{};  // "immediate" or "lasting"
  std::string risk{};  // "low", "medium", "high"
  std::string text{};
  std::string command{};  // may be empty
};

// Where a claim was looked up is its own `source`: what is as sure as 0.9 has one.
struct VersionNote {
  std::string range{}, effect{};
  double confidence = 0;
  std::string source{};
};

struct CloudNote {
  std::string provider{}, service{}, effect{};
  double confidence = 0;
  std::string source{};
};

struct ModeLink {
  std::string to{};  // canonical id
  double confidence = 0;
  std::string source{};
};

struct Source {
  std::string kind{}, ref{};
};

struct FailureMode {
  std::string id{};          // canonical: "postgresql/lock-wait"
  std::string middleware{};  // "postgresql"
  std::vector<std::string> aliases{};
  std::string name{};
  int severity = 3;
  bool effect = false;       // told by a caller or a health check of one that fails: that it does, not why
  std::string summary{};
  std::vector<Symptom> symptoms{};
  std::vector<Cause> causes{};
  std::vector<Mitigation> mitigations{};
  std::vector<VersionNote> versions{};
  std::vector<CloudNote> cloud{};
  std::vector<ModeLink> causes_modes{};
  std::vector<std::string> paraphrases{};
  std::vector<Source> sources{};
  std::string origin{};  // "postgresql.yaml:12"
  int column = 0;
  struct Named {
    std::string name{};
    int line = 0, column = 0;
  };
  std::vector<Named> named{};  // other modes as they are named here, for messages
};

struct Pack {
  std::string middleware{};
  std::string title{};
  std::vector<std::string> programs{};
  std::vector<int> ports{};
  std::vector<FailureMode> modes{};
  std::string origin{};  // file name
};

struct PackText {
  std::string name{};  // for messages: "postgresql.yaml"
  std::string text{};
};

// The packs that are part of this program.
std::span<const PackText> built_in_packs();

// All *.yaml files of a folder, by name. Errors: NotFound, Io, Exhausted.
Result<std::vector<PackText>> read_packs(const std::filesystem::path& directory);

// One pack. Errors: Invalid with every finding, each "file:line:column: what" and the line with a caret below it.
Result<Pack> parse_pack(const PackText& source);

// References between packs become canonical ids. Errors: Invalid for dangling references and ids that
// are given twice, one a line.
Result<void> link(std::vector<Pack>& packs);

}  // namespace culprit::graph
