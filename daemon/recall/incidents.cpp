#include "daemon/recall/incidents.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

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
    std::size_t told = 0;
    for (const auto& symptom : json["symptoms"]) {
      if (symptom.is_object() && told++ < kSymptomsMax) item.body += symptom.value("text", "") + "\n";
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
        for (const auto& step : candidate["next"]) item.body += step.is_string() ? step.get<std::string>() + "\n" : "";
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

double weight_after(double weight, const graph::Verdicts& verdicts) {
  if (verdicts.all() <= 0) return weight;
  return std::clamp(chance_after(weight, verdicts), kWeightLeast, std::max(weight, kWeightMost));
}

}  // namespace culprit::recall
