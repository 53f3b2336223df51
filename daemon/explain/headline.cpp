#include "daemon/explain/headline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kSpansMax = 50'000;
constexpr std::int64_t kLookBackNs = 10 * kNsPerSecond;

// Smaller = named first. A flood of errors matters more than how fast they come.
int order(const detect::Symptom& symptom) {
  if (symptom.series == "request.errors") return symptom.value >= 0.5 ? 0 : 3;
  if (symptom.series == "request.inflight.age.max") return 2;
  if (symptom.series == "request.duration.p99") return 1;
  if (symptom.series == "request.duration.mean") return 4;
  if (symptom.series == "process.starts") return 5;
  if (symptom.series == "process.crashes") return 6;
  if (symptom.series.starts_with("connect.failures")) return 7;
  return 8;
}

// Share of the root's requests in the incident that are slow or broken, from its spans; empty if there are none.
Result<std::string> affected(const stream::EventStore& store, const Scene& scene) {
  const View& p99 = scene.of_service(scene.root(), "request.duration.p99");
  const double bar = std::max(2 * p99.normal, 0.02);
  stream::Query query;
  query.from_ns = scene.windows().now_from_ns;
  query.to_ns = scene.windows().now_to_ns + 1;
  query.kinds = {stream::Kind::Span};
  query.entities = {"service:" + scene.root()};
  query.limit = kSpansMax;
  std::uint64_t all = 0, bad = 0;
  TRY(store.scan(query, [&](const stream::Event& event) {
    ++all;
    const std::string_view status = event.attribute("http.response.status_code");
    const bool broken = status.starts_with('5') || status.empty();
    if (event.value > bar || (broken && !status.empty())) ++bad;
    return true;
  }));
  if (all < 5 || bad == 0) return std::string();
  return fmt::format(", {:.0f} % of requests", 100.0 * static_cast<double>(bad) / static_cast<double>(all));
}

}  // namespace

const detect::Symptom* leading_symptom(const detect::Incident& incident, const std::string& service) {
  const detect::Symptom* best = nullptr;
  const std::string entity = "service:" + service;
  for (const detect::Symptom& symptom : incident.symptoms) {
    const auto key = [&](const detect::Symptom& s) { return std::tuple(s.entity != entity, order(s), -s.score); };
    if (best == nullptr || key(symptom) < key(*best)) best = &symptom;
  }
  return best;
}

Result<std::string> incident_headline(const stream::EventStore& store, const Scene& scene) {
  const detect::Symptom* symptom = leading_symptom(scene.incident(), scene.root());
  if (symptom == nullptr) return std::string();
  ASSIGN(std::string share, affected(store, scene));
  if (symptom->unit == "share") share.clear();  // it is one
  const std::string name = symptom->entity.starts_with("service:") ? symptom->entity.substr(8) : symptom->entity;
  return fmt::format("{} {} since {}{}", name, symptom->text, scene.time(symptom->since_ns), share);
}

Result<std::string> healthy_headline(const stream::EventStore& store, const std::string& service, const ExplainOptions& options) {
  stream::Query query;
  query.from_ns = options.now_ns - kLookBackNs;
  query.to_ns = options.now_ns + 1;
  query.kinds = {stream::Kind::Sample};
  query.entities = {"service:" + service};
  ASSIGN(const auto series, store.series(query));
  double rate = 0, p99 = 0, errors = 0;
  for (const stream::Series& one : series) {
    if (one.points.empty()) continue;
    std::vector<double> values;
    values.reserve(one.points.size());
    for (const stream::Point& point : one.points) values.push_back(point.value);
    std::ranges::sort(values);
    const double median = values[values.size() / 2];
    if (one.name == "request.rate") rate = median;
    if (one.name == "request.duration.p99") p99 = median;
    if (one.name == "request.errors") errors = median;
  }
  if (rate <= 0) return fmt::format("{} shows no symptom, and gets no requests", service);
  return fmt::format("{} is healthy: {:.0f} requests/s, p99 {}, {}", service, rate, format_seconds(p99),
                     errors > 0 ? fmt::format("{} errors", fmt::format("{:.1f}/s", errors)) : std::string("no errors"));
}

}  // namespace culprit::explain
