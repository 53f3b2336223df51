// FakeBackend: answers the fixed documents of tests/api/documents; remembers what it was asked.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <mutex>

#include "daemon/api/backend.h"

namespace culprit::api {

class FakeBackend : public Backend {
 public:
  explicit FakeBackend(std::string folder = CULPRIT_API_DOCUMENTS) : folder_(std::move(folder)) {}

  Result<Json> summary() override { return document("summary"); }
  Result<Json> services() override { return document("services"); }
  Result<Json> why(const WhyRequest& request) override {
    const std::lock_guard lock(mutex_);
    asked_why = request;
    for (const std::string& name : service_names()) {
      if (name == request.service) return document("why-" + name);
    }
    return fail(Code::NotFound, fmt::format("no service '{}' was seen", request.service));
  }
  Result<Json> incidents() override { return document("incidents"); }
  Result<Json> incident(IncidentId id) override {
    if (id == IncidentId{7}) return document("why-shop");
    return fail(Code::NotFound, fmt::format("no incident {}", static_cast<std::int64_t>(id)));
  }
  Result<std::string> export_incident(IncidentId id) override {
    if (id == IncidentId{7}) return "{\"culprit\":\"incident\",\"incident\":7}\n{\"event\":1}\n";
    return fail(Code::NotFound, fmt::format("no incident {}", static_cast<std::int64_t>(id)));
  }
  Result<Json> feedback(IncidentId id, const Feedback& feedback) override {
    if (id != IncidentId{7})
      return fail(Code::NotFound, fmt::format("no incident {}", static_cast<std::int64_t>(id)));
    const std::lock_guard lock(mutex_);
    asked_feedback = feedback;
    ASSIGN(Json all, document("incidents"));
    return all["incidents"][0];
  }
  Result<Json> events(const EventQuery& query) override {
    const std::lock_guard lock(mutex_);
    asked_events = query;
    return document("events");
  }
  Result<Json> diff(const DiffQuery& query) override {
    const std::lock_guard lock(mutex_);
    asked_diff = query;
    return document("diff");
  }
  Result<Json> series(const SeriesQuery& query) override {
    const std::lock_guard lock(mutex_);
    asked_series = query;
    return document("series");
  }
  Result<Json> store() override { return document("store"); }
  Result<Json> status() override { return document("status"); }
  Result<Json> doctor() override { return document("doctor"); }
  Result<Json> config() override {
    ASSIGN(Json result, document("config"));
    if (!state_dir.empty()) result["values"].push_back({{"key", "state_dir"}, {"value", state_dir}, {"origin", "command line"}, {"text", ""}});
    return result;
  }
  Result<Json> sources() override { return Json{{"api", 1}, {"sources", Json::array()}}; }
  Result<Json> import(const ImportRequest& request) override { return Json{{"api", 1}, {"records", request.bytes.size()}, {"format", request.format}}; }
  Result<Json> similar(const SimilarQuery& query) override { 
    const std::string title = "Incident 4: about " + query.about + ", " + std::to_string(query.limit) + " at most";
    return Json{{"api", 1}, {"similar", {{{"incident", "4"}, {"title", title}, {"text", "The cause was a lock.\nwe ended it\n"}}}}};
  }
  Result<Json> logs(const LogsQuery& query) override { return Json{{"api", 1}, {"limit", query.limit}, {"service", query.service}}; }
  Result<Json> source(const SourceRequest& request) override { return Json{{"api", 1}, {"type", request.type}, {"added", request.add}}; }
  Result<Json> trace(const std::string& id) override { return id == "4bf92f3577b34da6a3ce929d0e0e4736" ? document("trace") : fail(Code::NotFound, "no trace " + id); }
  Result<Json> rules() override { return document("rules"); }
  Result<Json> reload_rules() override { return fail(Code::Invalid, "bad.yaml:4:3: unknown key 'sumary'"); }
  Result<std::string> metrics_text() override {
    return "# TYPE culprit_events_total counter\nculprit_events_total 42\n";
  }
  std::vector<std::string> service_names() override { return {"nginx", "redis", "shop"}; }

  std::string state_dir;  // as the daemon would say it; empty = not said
  std::optional<WhyRequest> asked_why;
  std::optional<Feedback> asked_feedback;
  std::optional<EventQuery> asked_events;
  std::optional<DiffQuery> asked_diff;
  std::optional<SeriesQuery> asked_series;

 private:
  Result<Json> document(const std::string& name) const {
    std::ifstream file(fmt::format("{}/{}.json", folder_, name));
    Json document = Json::parse(file, nullptr, false);
    if (document.is_discarded()) return fail(Code::Io, fmt::format("no document '{}'", name));
    return document;
  }

  std::string folder_;
  std::mutex mutex_;
};

}  // namespace culprit::api
