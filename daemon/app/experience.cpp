#include "daemon/app/experience.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "daemon/base/log.h"
#include "daemon/base/text.h"
#include "daemon/recall/incidents.h"

namespace culprit::app {
namespace {

using api::Json;

constexpr std::size_t kCausesMax = 3;
constexpr std::size_t kEvidenceAsked = 3;    // of a cause: those that weigh most
constexpr std::size_t kDocumentsAsked = 5;
constexpr double kLikeLeast = 0.45;          // cosine; as recall asks of a line that is like a mode
constexpr std::size_t kQuestionBytesMax = 2'000, kQuoteBytesMax = 160;

// What a person would type: the cause's title and what speaks most for it.
std::string question_of(const Json& cause) {
  std::string text = cause.value("title", "");
  std::vector<std::pair<double, std::string>> said;
  for (const Json& each : cause.at("evidence")) {
    if (each.value("for", true)) said.emplace_back(-each.value("weight", 0.0), each.value("text", ""));
  }
  std::ranges::sort(said);
  for (std::size_t i = 0; i < std::min(said.size(), kEvidenceAsked); ++i) text += "\n" + said[i].second;
  return text.substr(0, kQuestionBytesMax);
}

std::string quote_of(const graph::ImportItem& item) {
  std::string text = sanitize_utf8(item.body);
  std::ranges::replace(text, '\n', ' ');
  if (text.size() <= kQuoteBytesMax) return text;
  std::size_t end = text.rfind(' ', kQuoteBytesMax);
  if (end == std::string::npos) end = kQuoteBytesMax;
  return sanitize_utf8(text.substr(0, end)) + " …";
}

}  // namespace

Result<void> Experience::open() {
  if (recall_ != nullptr && recall_->library() != nullptr) return {};
  ASSIGN(recall_, recall::Recall::open(modes_, {.graph_file = graph_file_}));  // a library may come later
  return {};
}

Result<Json> Experience::similar(const std::string& about, std::size_t limit) {
  const MutexLock lock(mutex_);
  TRY(open());
  return recall::similar_incidents(*recall_, graph_file_, about, limit);
}

void Experience::add(Json& explanation) {
  const auto causes = explanation.find("candidates");
  if (causes == explanation.end() || !causes->is_array() || causes->empty()) return;
  const MutexLock lock(mutex_);
  if (auto opened = open(); !opened) return log::warn("documents: {}; answering without them", opened.error().message);
  std::set<std::int64_t> used;
  for (std::size_t i = 0; i < std::min(causes->size(), kCausesMax); ++i) {
    Json& cause = (*causes)[i];
    std::set<std::string> modes = {cause.value("failure_mode", "")};
    for (const Json& also : cause.value("also", Json::array())) modes.insert(also.get<std::string>());
    const auto answers = recall_->documents({.text = question_of(cause), .limit = kDocumentsAsked});
    if (!answers) return log::warn("documents: {}; answering without them", answers.error().message);
    for (const recall::DocumentAnswer& answer : *answers) {
      const bool speaks_of_it = std::ranges::any_of(answer.modes, [&](const std::string& mode) { return modes.contains(mode); });
      if ((!speaks_of_it && answer.vector_score < kLikeLeast) || !used.insert(answer.document.id).second) continue;
      const graph::ImportItem& item = answer.document.item;
      Json& evidence = cause["evidence"];
      const Json time = evidence.empty() ? Json(nullptr) : evidence.front().value("time", Json(nullptr));
      evidence.push_back({{"time", time}, {"text", fmt::format("seen before, '{}': {}", sanitize_utf8(item.title.empty() ? item.key : item.title), quote_of(item))},
                          {"sources", {"document " + std::filesystem::path(answer.document.source).filename().string()}}, {"weight", 0.0}, {"for", true}});
      break;
    }
  }
}

}  // namespace culprit::app
