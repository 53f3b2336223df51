#include "rules/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "graph/yaml.h"
#include "rules/engine.h"
#include "rules/review.h"

namespace culprit::rules {
namespace {

constexpr std::string_view kSamples[] = {
    "request.rate", "request.errors", "request.duration.p50", "request.duration.p99", "request.duration.mean", "request.inflight", "request.inflight.age.max",
    "request.self.mean", "client.rate", "client.errors", "client.duration.mean", "client.duration.p99", "client.inflight", "client.inflight.age.max",
    "client.wait.share", "connect.failures", "connect.duration.mean", "tcp.retransmits", "tcp.resets", "tcp.rtt", "cpu.time", "cpu.run_queue.wait",
    "cpu.run_queue.mean", "cpu.blocked", "process.stopped", "disk.read.bytes", "disk.write.bytes", "disk.wait", "fsync.rate", "fsync.mean", "fsync.max",
    "open.mean", "memory.rss", "process.fds", "process.fds.ratio", "process.count", "process.starts", "process.exits", "process.crashes",
    "memory.limit.ratio", "cpu.throttled", "syscall.errors", "log.rate", "log.errors", "tcp.accept_queue.ratio", "disk.rate", "disk.bytes",
    "disk.latency.mean", "disk.latency.p99", "disk.busy", "filesystem.used.ratio", "filesystem.inodes.ratio", "filesystem.avail", "cpu.count",
    "memory.available", "memory.available.ratio", "pressure.cpu", "pressure.io", "pressure.memory"};
constexpr std::string_view kKernel[] = {"process.exec", "process.exit", "process.oom_kill", "process.signal", "tcp.listen", "tcp.connect.failed",
                                        "tcp.reset", "syscall.slow", "block.slow", "sensor.gap"};
constexpr std::string_view kChanges[] = {"service.start", "service.stop", "service.restart", "service.version", "process.start", "config.write", "config.violation"};

// Attributes of culprit's own kernel events and changes, beside those that all have (docs/events.md).
struct Attributes {
  std::string_view name;
  std::vector<std::string_view> attributes;
};
const std::vector<Attributes>& own_attributes() {
  static const std::vector<Attributes> kAll = {
      {"process.exec", {"process.executable.path", "process.script"}},
      {"process.exit", {"exit.code", "exit.signal", "exit.core_dumped", "process.main", "process.lifetime"}},
      {"process.oom_kill", {"victim.comm", "victim.rss", "memory.limit", "allocator.pid", "allocator.comm"}},
      {"process.signal", {"signal", "sender.pid", "sender.comm", "target.pid"}},
      {"tcp.connect.failed", {"peer", "errno"}},
      {"tcp.reset", {"peer"}},
      {"syscall.slow", {"call", "errno", "path"}},
      {"block.slow", {"device", "op", "bytes"}}};
  return kAll;
}
constexpr std::string_view kOfAll[] = {"service", "process.pid", "process.command", "thread.id"};

constexpr double kEventsOfEstimate = 1'000;
constexpr double kNearShare = 0.01;

std::string place(const Rule& rule, int line) { return fmt::format("{}:{}", rule.origin.substr(0, rule.origin.rfind(':')), line); }

bool tries_every_body(const MatchItem& item) { return item.name.empty() && item.literals.empty() && (!item.regex.empty() || !item.text.empty() || item.filter.reads_body()); }

}  // namespace

std::span<const std::string_view> known_names(Kind kind) {
  switch (kind) {
    case Kind::Sample: return kSamples;
    case Kind::Kernel: return kKernel;
    case Kind::Change: return kChanges;
    default: return {};
  }
}

double estimated_cost(const Rule& rule) {
  double cost = 0;
  for (const MatchItem& item : rule.match) {
    if (tries_every_body(item)) cost += kEventsOfEstimate * static_cast<double>(kTrySteps);
    else if (!item.literals.empty()) cost += kEventsOfEstimate * kNearShare * static_cast<double>(kTrySteps);
    else cost += kEventsOfEstimate * kNearShare;
  }
  return cost;
}

std::vector<Note> lint(const RuleSet& rules) {
  std::vector<Note> notes;
  std::map<std::string_view, const Rule*> seen;
  for (const RulePtr& rule : rules.rules()) {
    const auto note = [&](int line, std::string what) { notes.push_back({rule->id, place(*rule, line), std::move(what)}); };
    for (std::size_t i = 0; i < rule->match.size(); ++i) {
      const MatchItem& item = rule->match[i];
      if (i != rule->anchor && item.when == When::Any) note(item.line, fmt::format("unbounded window: '{}' has no 'within', so it may be {} away", item.id, "15 min"));
      if (tries_every_body(item)) note(item.line, fmt::format("'{}' has no fixed text of three letters or more: its regex runs on every {} body", item.id, kind_key(item.kind)));
      if (item.least > kKeptPerClauseMax * kKeptPerSecondMax) note(item.line, fmt::format("unreachable: '{}' asks for {} events, more than are kept", item.id, item.least));
      const auto names = known_names(item.kind);
      const std::string base = item.name.substr(0, item.name.find('{'));
      if (!names.empty() && !base.empty() && base.find_first_of("*?") == std::string::npos && std::ranges::find(names, base) == names.end()) {
        const std::vector<std::string> candidates(names.begin(), names.end());
        note(item.line, fmt::format("nothing of culprit's own is called '{}'{}", base, graph::did_you_mean(base, candidates)));
      }
      const auto& own = own_attributes();
      const auto known = std::ranges::find(own, std::string_view(item.name), &Attributes::name);
      for (const AttributeMatch& match : item.where) {
        if (item.kind != Kind::Kernel || known == own.end()) break;
        std::vector<std::string> all(known->attributes.begin(), known->attributes.end());
        all.insert(all.end(), std::begin(kOfAll), std::end(kOfAll));
        if (std::ranges::find(all, match.attribute) == all.end()) note(item.line, fmt::format("culprit's own '{}' has no attribute '{}'{}", item.name, match.attribute, graph::did_you_mean(match.attribute, all)));
        const bool number = std::ranges::any_of(match.globs, [](const std::string& glob) { return !glob.empty() && glob.find_first_not_of("0123456789") == std::string::npos; });
        if (match.attribute.ends_with("signal") && number) note(item.line, fmt::format("'{}' of '{}' is a name such as SIGKILL, not a number", match.attribute, item.name));
      }
      for (std::size_t k = 0; k < i; ++k) {
        const MatchItem& other = rule->match[k];
        if (other.kind == item.kind && other.name == item.name && other.entity == item.entity && other.text == item.text && other.regex == item.regex && other.filter_text == item.filter_text && other.above == item.above && other.times_normal == item.times_normal &&
            other.below == item.below && other.absent != item.absent && other.where.empty() && item.where.empty() && !item.same_entity && !other.same_entity && !other.optional && item.least == 1 && other.least == 1) {
          note(item.line, fmt::format("unreachable: '{}' must be there and '{}' must not, and both are the same", other.id, item.id));
        }
      }
    }
    if (rule->status == Status::Stable) {
      const Review review = review_cases(*rule);
      const int line = rule->tests.empty() ? 1 : rule->tests.front().line;
      if (review.too_large) note(line, "its cases hold too many events to be run without each clause: what they test is not known");
      else if (review.positive == 0) note(line, "no case in which it fires");
      if (!review.too_large && review.near_misses == 0) note(line, "no near miss: a case in which it does not fire and one condition is all that is missing");
      if (!review.too_large && review.noisy == 0) note(line, "no noisy case: one in which it fires while something that nearly fits is there too, and must not be blamed");
      for (const Mutant& mutant : review.survivors) note(mutant.line == 0 ? line : mutant.line, fmt::format("not tested: every case passes without {}", mutant.what));
    }
    const auto [twin, fresh] = seen.emplace(rule->matches, rule.get());
    if (!fresh) note(rule->match.empty() ? 1 : rule->match.front().line, fmt::format("duplicate: matches and blames exactly as '{}' does", twin->second->id));
  }
  return notes;
}

}  // namespace culprit::rules
