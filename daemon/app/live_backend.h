// LiveBackend: the API's documents (docs/api.md) over the running daemon. Reads snapshots only; every method may be
// called from any server thread.
#pragma once

#include <memory>

#include "daemon/api/backend.h"
#include "daemon/app/diagnosis.h"
#include "daemon/app/experience.h"
#include "daemon/app/pipeline.h"
#include "daemon/app/sources.h"
#include "daemon/base/config.h"

namespace culprit::app {

class LiveBackend final : public api::Backend {
 public:
  struct Parts {
    const Config& config;
    const Clock& clock;
    const stream::EventStore& store;
    const concurrent::Registry& registry;
    const Accounting& accounting;
    Pipeline& pipeline;
    Diagnosis& diagnosis;
    Sources& sources;
    std::filesystem::path graph_file;
    std::int64_t started_ns = 0;
    std::string version;
    std::string user;  // whom the daemon became
    rules::RuleBook& rules;
  };
  explicit LiveBackend(Parts parts) : parts_(std::move(parts)), experience_(parts_.diagnosis.modes(), parts_.graph_file) {}

  Result<api::Json> summary() override;
  Result<api::Json> services() override;
  Result<api::Json> why(const api::WhyRequest& request) override;
  Result<api::Json> incidents() override;
  Result<api::Json> incident(api::IncidentId id) override;
  Result<std::string> export_incident(api::IncidentId id) override;
  Result<api::Json> feedback(api::IncidentId id, const api::Feedback& feedback) override;
  Result<api::Json> similar(const api::SimilarQuery& query) override;
  Result<api::Json> events(const api::EventQuery& query) override;
  Result<api::Json> diff(const api::DiffQuery& query) override;      // stream_backend.cpp has these three
  Result<api::Json> series(const api::SeriesQuery& query) override;
  Result<api::Json> store() override;
  Result<api::Json> status() override;
  Result<api::Json> doctor() override;
  Result<api::Json> rules() override;
  Result<api::Json> reload_rules() override;
  Result<api::Json> config() override;
  Result<api::Json> sources() override;
  Result<api::Json> source(const api::SourceRequest& request) override;
  Result<api::Json> import(const api::ImportRequest& request) override;
  Result<api::Json> logs(const api::LogsQuery& request) override;
  Result<api::Json> trace(const std::string& id) override;
  Result<std::string> metrics_text() override;
  std::vector<std::string> service_names() override;

 private:
  Result<void> remember(graph::Store& graph, const graph::Incident& row);
  std::string wall(std::int64_t boot_ns) const;
  api::Json completeness() const;
  Result<api::Json> recent_changes() const;
  std::vector<std::string> problems() const;
  Result<std::vector<stream::Event>> lines_of_threads(const std::vector<stream::Event>& spans, std::int64_t budget_ns, stream::Completeness& complete) const;
  Result<stream::Filter> resolve(const stream::Filter& filter) const;  // `near`, by who calls whom now
  api::Json incident_row(graph::Store& graph, const graph::Incident& row) const;

  Parts parts_;
  Host host_;
  Experience experience_;
};

}  // namespace culprit::app
