#include "daemon/recall/incidents.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "daemon/base/clock.h"

namespace culprit::recall {
namespace {

constexpr double kWeightLeast = 0.1;
constexpr double kWeightMost = 0.98;
constexpr std::size_t kSymptomsMax = 8;  // of an explanation, told in the document

std::string source_of(graph::IncidentId id) { return fmt::format("incident:{}", static_cast<std::int64_t>(id)); }

}  // namespace

graph::ImportItem incident_item(const graph::Incident& incident, std::span<const graph::Feedback> said) {
  graph::ImportItem item{.key = fmt::format("{}", static_cast<std::int64_t>(incident.id)), .collection = std::string(kIncidentCollection),
                         .title = fmt::format("Incident {}: {}", static_cast<std::int64_t>(incident.id), incident.headline)};
  item.body = fmt::format("Service {}. {}\n", incident.service, incident.headline);
  const auto json = nlohmann::json::parse(incident.explanation, nullptr, false);
  if (json.is_object() && json.contains("symptoms") && json["symptoms"].is_array()) {
    std::set<std::string> told;
    for (const auto& symptom : json["symptoms"]) {
      if (told.size() == kSymptomsMax || !symptom.is_object()) continue;
      const std::string entity = symptom.value("entity", ""), text = symptom.value("text", "");
      const bool own = entity.empty() || entity == "service:" + incident.service;
      const std::string line = own ? text : fmt::format("{}: {}", entity, text);
      // The headline says the first symptom already.
      if (!incident.headline.contains(line) && told.insert(line).second) item.body += line + "\n";
    }
  }
  for (const graph::Feedback& one : said) {
    if (one.rank == 0) {
      item.body += fmt::format("The answer as a whole was {}.\n", one.verdict == "partly" ? "partly right" : one.verdict);
    } else if (one.verdict == "wrong") {
      item.body += fmt::format("It was not {}.\n", one.failure_mode);
    } else {
      item.body += fmt::format("The cause was {} at {}.\n", one.failure_mode, one.entity);
      item.signal += one.failure_mode + "\n";
    }
    if (!one.note.empty()) item.body += one.note + "\n";
    if (!one.who.empty()) item.body += fmt::format("Said by {} on {:%F}.\n", one.who, fmt::gmtime(static_cast<std::time_t>(one.time_ns / kNsPerSecond)));
  }
  if (json.is_object() && json.contains("candidates") && json["candidates"].is_array()) {
    for (const auto& candidate : json["candidates"]) {
      const auto mine = std::ranges::find_if(said, [&](const graph::Feedback& one) { return candidate.is_object() && one.verdict != "wrong" && one.rank == candidate.value("rank", 0); });
      if (mine == said.end()) continue;
      item.body += candidate.value("title", "") + "\n";
      if (candidate.contains("next") && candidate["next"].is_array()) {
        for (const auto& step : candidate["next"]) {
          // Questions to this host about that moment help nobody later.
          if (step.is_string() && !step.get_ref<const std::string&>().starts_with("culprit ")) item.body += step.get<std::string>() + "\n";
        }
      }
    }
  }
  return item;
}

Result<void> remember_incident(std::shared_ptr<const Modes> modes, const std::filesystem::path& graph_file, const graph::Incident& incident,
                               std::span<const graph::Feedback> said, std::int64_t now_ns) {
  ASSIGN(const auto recall, Recall::open(std::move(modes), {.graph_file = graph_file, .write = true}));
  if (std::ranges::any_of(said, [](const graph::Feedback& one) { return one.verdict == "right"; })) {
    return recall->put(source_of(incident.id), incident_item(incident, said), now_ns);
  }
  if (auto gone = recall->library()->remove(source_of(incident.id)); !gone && gone.error().code != Code::NotFound) return std::unexpected(gone.error());
  return {};
}

Result<nlohmann::json> similar_incidents(Recall& recall, const std::filesystem::path& graph_file, const std::string& about, std::size_t limit) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(about.data(), about.data() + about.size(), number);
  const bool by_number = error == std::errc() && end == about.data() + about.size();
  std::string text = about;
  if (by_number) {
    ASSIGN(auto store, graph::Store::open(graph_file, graph::Store::Mode::Read));
    ASSIGN(const graph::Incident incident, store.get(graph::IncidentId{number}));
    text = incident_item(incident, {}).body;
  }
  // One more than asked for: the incident itself may be among them.
  ASSIGN(const auto found, recall.documents({.text = text, .collection = std::string(kIncidentCollection), .limit = limit + 1}));
  nlohmann::json rows = nlohmann::json::array();
  for (const DocumentAnswer& answer : found) {
    const graph::ImportItem& item = answer.document.item;
    if (rows.size() == limit) break;
    if (by_number && answer.document.source == source_of(graph::IncidentId{number})) continue;
    rows.push_back({{"incident", item.key}, {"title", item.title}, {"text", item.body}, {"source", answer.document.source}, {"score", answer.score},
                    {"likeness", answer.vector_score}, {"failure_modes", answer.modes}});
  }
  return nlohmann::json{{"api", 1}, {"similar", std::move(rows)}};
}

double weight_after(double weight, const graph::Verdicts& verdicts) {
  if (verdicts.all() <= 0) return weight;
  return std::clamp(chance_after(weight, verdicts), kWeightLeast, std::max(weight, kWeightMost));
}

}  // namespace culprit::recall
