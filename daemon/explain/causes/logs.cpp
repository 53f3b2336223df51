// New log lines that mean a failure mode, by our own few signs and by the knowledge graph.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"
#include "daemon/logs/header.h"

namespace culprit::explain {

namespace {

constexpr std::uint64_t kMany = 10;
constexpr double kSureEnough = 0.5;  // a weaker match from outside is ignored
constexpr std::size_t kKnowledgeQueriesMax = 200;

struct Match {
  std::string mode;
  std::vector<std::string> also;
  std::string middleware, name;
  double weight = 0;
  bool known = false;  // to the knowledge graph, which weighs it by what people said
};

std::string_view before_slash(std::string_view id) { return id.substr(0, id.find('/')); }

Match match_of(const ModeMatch& known) {
  Match match{{}, {known.id}, known.middleware, known.name, known.weight, true};
  const FailureMode* mode = find_mode(known.id);
  match.mode = mode != nullptr ? std::string(mode->id)
               : known.id.find('/') != std::string::npos ? known.id : fmt::format("{}/{}", known.middleware, known.id);
  return match;
}

std::vector<Match> matches(const Scene& scene, const LogNews& news, std::size_t& queries) {
  std::vector<Match> found;
  for (const auto& [time_ns, line] : news.lines) {
    for (const LogSign& sign : log_signs()) {
      if (line.find(sign.literal) == std::string::npos) continue;
      if (std::ranges::any_of(found, [&](const Match& m) { return m.mode == sign.mode; })) continue;
      const FailureMode& mode = failure_mode(sign.mode);
      found.push_back({std::string(sign.mode), {}, std::string(before_slash(sign.mode)), std::string(mode.name), sign.weight, false});
    }
    if (found.size() >= 3) break;
  }
  if (scene.options().knowledge != nullptr && queries < kKnowledgeQueriesMax) {
    ++queries;
    for (const ModeMatch& known : scene.options().knowledge->match(news.text, news.service)) {
      if (known.weight < kSureEnough) continue;
      Match match = match_of(known);
      const auto twin = std::ranges::find(found, match.mode, &Match::mode);
      if (twin == found.end()) {
        found.push_back(std::move(match));
      } else {
        twin->weight = std::max(twin->weight, match.weight);
        twin->known = true;
        if (std::ranges::find(failure_mode(twin->mode).also, known.id) == failure_mode(twin->mode).also.end()) twin->also.push_back(known.id);
      }
    }
  }
  return found;
}

// Whose mode is it? A client repeats what its server said: then the server is meant.
std::string meant(const Scene& scene, const std::string& writer, const std::string& middleware) {
  if (scene.middleware(writer) == middleware) return writer;
  const Edge* best = nullptr;
  for (const Edge* edge : scene.callees_of(writer)) {
    if (scene.middleware(edge->callee) == middleware && (best == nullptr || edge->share > best->share)) best = edge;
  }
  return best != nullptr ? best->callee : writer;
}

bool general(std::string_view middleware) {
  return middleware == "linux-kernel" || middleware == "application" || middleware == "tls" || middleware == "coredns";
}

// News are of a log, or of failed spans.
std::string_view verb_of(const LogNews& news) { return news.template_id.empty() ? "reports in its spans" : "logs"; }
// Without the header: the evidence has its own time and service.
std::string bare_line(std::string_view line, std::size_t length_max = 140) {
  std::string buffer;
  return short_line(logs::split_header(line, buffer).text, length_max);
}
std::string source_of(const LogNews& news) { return fmt::format("{} {}", news.service, news.template_id.empty() ? "spans" : "log"); }

// Everything above the level of news, from services that matter.
bool concerns(const Scene& scene, const std::string& service) {
  return scene.in_reach(service) || std::ranges::binary_search(scene.incident().services, service);
}

}  // namespace

void causes_logs(const Scene& scene, Drafts& drafts) {
  struct Found {
    const LogNews* news;
    Match match;
  };
  std::map<std::pair<std::string, std::string>, std::vector<Found>> by_cause;  // (mode, service)
  std::map<std::string, const LogNews*> unmatched;                              // service -> its worst new error
  std::size_t queries = 0;
  for (const LogNews& news : scene.log_news()) {
    if (!concerns(scene, news.service)) continue;
    const std::vector<Match> found = matches(scene, news, queries);
    for (const Match& match : found) {
      const std::string service = general(match.middleware) ? news.service : meant(scene, news.service, match.middleware);
      by_cause[{match.mode, service}].push_back({&news, match});
    }
    if (found.empty() && news.severity >= stream::kError) {
      const LogNews*& worst = unmatched[news.service];
      if (worst == nullptr || news.count > worst->count) worst = &news;
    }
  }
  for (auto& [key, found] : by_cause) {
    const auto& [mode_id, service] = key;
    std::ranges::stable_sort(found, [](const Found& a, const Found& b) { return a.match.weight > b.match.weight; });
    const FailureMode& mode = failure_mode(mode_id);
    Draft draft = draft_of(scene, mode_id, service);
    const Match& best = found.front().match;
    draft.title = fmt::format("{}: {}", service, best.name.empty() ? std::string(mode.name) : best.name);
    draft.also = best.also;
    draft.judged = std::ranges::any_of(found, [](const Found& one) { return one.match.known; });
    // That a server is silent or gone, its callers' logs tell; why, they do not.
    if (mode_id.ends_with("/down") || mode_id.ends_with("/stopped")) draft.generic = true;
    double strength = weight::kLogSign;
    for (const Found& one : found) {
      const LogNews& news = *one.news;
      std::string line = news.text;
      for (const auto& [time_ns, text] : news.lines) {
        const bool tells = std::ranges::any_of(log_signs(), [&](const LogSign& sign) {
          return sign.mode == mode_id && text.find(sign.literal) != std::string::npos;
        });
        if (tells) {
          line = text;
          break;
        }
      }
      draft.add(strength * one.match.weight, news.first_ns, fmt::format("{} {}: {}{}", news.service, verb_of(news), bare_line(line), news.count > 1 ? fmt::format(" ({} times)", group_digits(news.count)) : ""),
                {source_of(news)});
      if (news.count >= kMany && strength == weight::kLogSign) draft.evidence.back().weight += weight::kLogMany;
      if (draft.onset_ns == 0 || news.first_ns < draft.onset_ns) draft.onset_ns = news.first_ns;
      strength = weight::kHint;
      if (draft.evidence.size() >= 3) break;
    }
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
  for (const auto& [service, news] : unmatched) {
    if (scene.self(service) < 0.2) continue;
    Draft draft = draft_of(scene, "application/errors", service);
    draft.generic = true;
    draft.onset_ns = news->first_ns;
    draft.title = fmt::format("{}: {} a new error: {}", service, verb_of(*news), bare_line(news->text, 80));
    draft.add(weight::kSignal, news->first_ns, fmt::format("{} {}: {} ({} times)", service, verb_of(*news), bare_line(news->text), group_digits(news->count)), {source_of(*news)});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

}  // namespace culprit::explain
