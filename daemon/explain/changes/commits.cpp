#include "daemon/explain/changes/commits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "daemon/base/text.h"
#include "daemon/explain/changes/diff.h"
#include "daemon/explain/changes/symptom.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kSlackNs = 120 * kSecond;   // clocks and rows of a minute
constexpr double kHalfHourS = 1800;

// Log-odds.
constexpr double kDeployed = 2.0;
constexpr double kNotDeployed = -1.0;
constexpr double kTooLate = -4.0;
constexpr double kHere = 1.6;          // deployed to a service that shows the symptom
constexpr double kHarmless = -3.0;
constexpr double kNoDiff = -0.5;
constexpr double kWordsMost = 3.0;     // of the commit that shares most, if it shares
constexpr double kWordsEnough = 3;     // so many words that this commit alone shares: one or two, or what every commit says, may be chance
constexpr double kValue = 1.0;         // a value changed two-fold or more
constexpr double kRemoved = 1.2;
constexpr double kMeans = 1.2;         // the kind of change that such a symptom comes from
constexpr double kNone = 2.6;          // what a commit has to beat
constexpr double kOutside = 2.0;       // a sign that names the reason outweighs a commit that is only near in time and words

// What a symptom of a kind comes from, in words of code.
struct Means {
  std::array<std::string_view, 6> symptom;
  std::array<std::string_view, 10> change;
};
constexpr std::array kMeansTable = std::to_array<Means>({
    {{"oom", "memory", "heap", "rss", "", ""}, {"append", "cache", "buffer", "accumulate", "history", "retain", "pool", "global", "log", "map"}},
    {{"deadline", "timeout", "timed out", "", "", ""}, {"timeout", "deadline", "millisecond", "second", "budget", "retry", "wait", "duration", "delay", "backoff"}},
    {{"latency", "slow", "p99", "duration", "", ""}, {"loop", "query", "select", "lock", "mutex", "sleep", "batch", "sync", "index", "client"}},
    {{"throttl", "throughput", "capacity", "rate limit", "quota", ""}, {"batch", "chunk", "limit", "burst", "concurrency", "retry", "write", "put", "parallel", "worker"}},
    {{"disk", "no space", "volume", "", "", ""}, {"level", "debug", "sample", "retention", "rotate", "file", "path", "dump", "trace", "size"}},
    {{"unauthorized", "401", "403", "token", "jwt", "permission"}, {"expiry", "leeway", "claim", "verify", "validate", "audience", "secret", "auth", "role", "scope"}},
    {{"retry budget", "attempt", "contention", "election", "conflict", ""}, {"attempt", "retry", "backoff", "delay", "max", "lock", "timeout", "lease", "policy", "jitter"}},
    {{"not found", "does not exist", "undefined", "missing", "unknown", ""}, {"register", "migration", "table", "create", "delete", "drop", "rename", "remove", "bootstrap", "select"}},
    {{"connection", "pool", "too many", "exhaust", "", ""}, {"pool", "connection", "max", "close", "idle", "open", "limit", "leak", "defer", "release"}},
    {{"cpu", "throttling", "busy", "", "", ""}, {"loop", "regex", "parse", "compute", "hash", "compress", "poll", "sort", "encode", "scan"}},
});

double mean_overlap(const SymptomWords& symptom, const Bag& changed) {
  double best = 0;
  for (const Means& row : kMeansTable) {
    if (std::ranges::none_of(row.symptom, [&](std::string_view sign) { return speaks_of(symptom, sign); })) continue;
    double hits = 0;
    for (const std::string_view word : row.change) hits += changed.contains(word) ? 1 : 0;
    best = std::max(best, std::min(1.0, hits / 2));
  }
  return best;
}

// The lines that a diff changes, without those that it only moves: taken away here, added there, letter for letter but for their
// indentation.
std::string unmoved_lines(const RecordedChange& commit) {
  const std::vector<DiffLine> lines = changed_lines(commit.diff);
  std::map<std::string_view, std::pair<int, int>> moved;  // (taken away, added) that are the two ends of a move
  const auto unindented = [](std::string_view text) { return text.substr(std::min(text.size(), text.find_first_not_of(" \t"))); };
  for (const DiffLine& line : lines) {
    auto& [gone, come] = moved[unindented(line.text)];
    ++(line.sign == '-' ? gone : come);
  }
  for (auto& [text, ends] : moved) ends.first = ends.second = std::min(ends.first, ends.second);
  std::string out;
  for (const DiffLine& line : lines) {
    auto& [gone, come] = moved.at(unindented(line.text));
    int& skip = line.sign == '-' ? gone : come;
    if (skip > 0) {
      --skip;
      continue;
    }
    out += line.text;
    out += '\n';
  }
  return out;
}

}  // namespace

std::vector<RankedCommit> score_commits(const RecordedCase& c) {
  std::vector<const RecordedChange*> commits;
  for (const RecordedChange& change : c.changes) {
    if (change.kind == RecordedChange::Kind::Commit) commits.push_back(&change);
  }
  if (commits.empty()) return {};
  const SymptomWords symptom = symptom_of(c);
  std::vector<Bag> bags(commits.size());
  Bag commits_with;
  for (std::size_t i = 0; i < commits.size(); ++i) {
    add_words(bags[i], unmoved_lines(*commits[i]), 1);
    add_words(bags[i], commits[i]->text, 1);
    for (const std::string& file : commits[i]->files) add_words(bags[i], file, 0.7);
    for (const auto& [word, weight] : bags[i]) commits_with[word] += 1;
  }
  std::vector<double> overlap(commits.size()), counted(commits.size());
  std::vector<std::string> shared(commits.size());
  double most = 0;
  for (std::size_t i = 0; i < commits.size(); ++i) {
    std::vector<std::pair<double, std::string_view>> parts;
    double strength = 0;
    for (const auto& [word, weight] : bags[i]) {
      const auto said = symptom.words.find(word);
      if (said == symptom.words.end()) continue;
      const double part = weight * said->second * std::log(1 + static_cast<double>(commits.size()) / commits_with[word]);
      overlap[i] += part;
      strength += part;
      parts.emplace_back(part, word);
    }
    overlap[i] /= std::sqrt(3 + std::sqrt(static_cast<double>(bags[i].size())));
    most = std::max(most, overlap[i]);
    std::ranges::sort(parts, std::greater<>());
    counted[i] = std::min(1.0, strength / (kWordsEnough * std::log(1 + static_cast<double>(commits.size()))));
    for (std::size_t k = 0; k < std::min<std::size_t>(4, parts.size()); ++k) shared[i] += fmt::format("{}{}", k > 0 ? ", " : "", parts[k].second);
  }
  std::vector<RankedCommit> out;
  for (std::size_t i = 0; i < commits.size(); ++i) {
    const RecordedChange& commit = *commits[i];
    RankedCommit one{commit.id, 0, short_line(commit.text, 100)};
    const RecordedChange* deploy = nullptr;  // of several the first to a service that shows the symptom
    const auto shown_by = [&](const RecordedChange& change) {  // how strongly the one it was deployed to shows the symptom
      const auto where = symptom.services.find(c.service(change.service));
      return where == symptom.services.end() ? 0.0 : where->second;
    };
    for (const RecordedChange& change : c.changes) {
      if (change.kind != RecordedChange::Kind::Deploy || change.id != commit.id) continue;
      if (deploy == nullptr || (shown_by(*deploy) <= 0 && shown_by(change) > 0)) deploy = &change;
    }
    const std::int64_t since_ns = deploy != nullptr ? deploy->time_ns : commit.time_ns;
    const bool too_late = since_ns > symptom.onset_ns + kSlackNs;
    if (too_late) {
      one.score += kTooLate;
      one.reason += "; later than the onset";
    }
    if (deploy != nullptr) {
      one.score += kDeployed;
      one.score += kHere * shown_by(*deploy);
      one.reason += fmt::format("; deployed to {}", deploy->service);
    } else {
      one.score += kNotDeployed;
    }
    if (!too_late) {
      const double before_s = static_cast<double>(std::max<std::int64_t>(0, symptom.onset_ns - since_ns)) / 1e9;
      one.score += 1.5 * std::exp(-before_s / kHalfHourS);
      one.reason += fmt::format(" {} before the onset", format_seconds(before_s));
    }
    if (most > 0) {
      one.score += kWordsMost * counted[i] * overlap[i] / most;
      if (!shared[i].empty()) one.reason += fmt::format("; the symptom speaks of {} as well", shared[i]);
    }
    const DiffShape shape = shape_of(commit);
    if (shape.harmless) one.score += kHarmless;
    if (commit.diff.empty()) one.score += kNoDiff;
    one.score += kValue * std::min(1.5, shape.value_change / 2) + kRemoved * shape.removed;
    if (!shape.text.empty()) one.reason += "; " + shape.text;
    if (!shape.harmless) one.score += kMeans * mean_overlap(symptom, bags[i]);
    out.push_back(std::move(one));
  }
  out.push_back({"none", kNone + kOutside * symptom.outside, symptom.outside_text.empty() ? "no commit stands out" : symptom.outside_text});
  std::ranges::stable_sort(out, [](const RankedCommit& a, const RankedCommit& b) { return a.score != b.score ? a.score > b.score : a.id < b.id; });
  return out;
}

std::vector<std::string> rank_commits(const RecordedCase& c, Explanation& explanation) {
  const std::vector<RankedCommit> ranked = score_commits(c);
  std::vector<std::string> out;
  for (const RankedCommit& one : ranked) out.push_back(one.id);
  if (ranked.empty() || ranked.front().id == "none") return out;
  for (const RecordedChange& change : c.changes) {
    if (change.kind != RecordedChange::Kind::Deploy || change.id != ranked.front().id) continue;
    for (RankedCause& cause : explanation.candidates) {
      if (cause.service == change.service && !cause.trigger) cause.trigger = Trigger{change.time_ns, fmt::format("commit {}: {}", change.id.substr(0, 12), ranked.front().reason)};
    }
  }
  return out;
}

}  // namespace culprit::explain
