// Bytes as one request: first byte = door and method, then the target, a newline, the body.
#include <cassert>
#include <cstdint>
#include <string>

#include "daemon/api/handler.h"
#include "daemon/api/query.h"

namespace {

using culprit::Code;
using culprit::fail;
using culprit::Result;
using culprit::api::Json;

class Empty final : public culprit::api::Backend {
 public:
  Result<Json> summary() override { return Json::object(); }
  Result<Json> services() override { return Json::object(); }
  Result<Json> why(const culprit::api::WhyRequest& request) override {
    return fail(Code::NotFound, request.service);
  }
  Result<Json> incidents() override { return Json::object(); }
  Result<Json> incident(culprit::api::IncidentId) override { return Json::object(); }
  Result<std::string> export_incident(culprit::api::IncidentId) override { return ""; }
  Result<Json> feedback(culprit::api::IncidentId, const culprit::api::Feedback& feedback) override {
    return Json{{"note", feedback.note}};
  }
  Result<Json> events(const culprit::api::EventQuery& query) override {
    assert(query.limit >= 1 && query.limit <= culprit::api::kEventsLimitMax);
    return Json{{"text", query.text}, {"entities", query.entities}};
  }
  Result<Json> diff(const culprit::api::DiffQuery&) override { return Json::object(); }
  Result<Json> series(const culprit::api::SeriesQuery&) override { return Json::object(); }
  Result<Json> store() override { return Json::object(); }
  Result<Json> status() override { return Json::object(); }
  Result<Json> doctor() override { return Json::object(); }
  Result<Json> config() override { return Json::object(); }
  Result<Json> rules() override { return Json::object(); }
  Result<Json> reload_rules() override { return Json::object(); }
  Result<Json> sources() override { return Json::object(); }
  Result<Json> import(const culprit::api::ImportRequest& request) override { return Json{{"name", request.name}}; }
  Result<Json> similar(const culprit::api::SimilarQuery& query) override { return Json{{"api", 1}, {"about", query.about}, {"limit", query.limit}}; }
  Result<Json> logs(const culprit::api::LogsQuery& query) override { return Json{{"api", 1}, {"limit", query.limit}, {"service", query.service}}; }
  Result<Json> source(const culprit::api::SourceRequest& request) override { return Json{{"api", 1}, {"type", request.type}, {"added", request.add}}; }
  Result<Json> trace(const std::string& id) override { return Json{{"trace_id", id}}; }
  Result<std::string> metrics_text() override { return ""; }
  std::vector<std::string> service_names() override { return {"shop", "nginx"}; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t line = text.find('\n');
  culprit::api::Request request;
  request.door = (data[0] & 1) != 0 ? culprit::api::Door::Loopback : culprit::api::Door::Socket;
  request.method = (data[0] & 2) != 0 ? "POST" : "GET";
  request.target = text.substr(0, line);
  request.body = line == std::string::npos ? "" : text.substr(line + 1);
  request.host = "localhost";
  request.content_type = "application/json";
  Empty backend;
  const auto response = culprit::api::handle(request, backend, {});
  // Whatever came in, what goes out is a status and, unless a text was asked for, JSON.
  assert(response.status >= 200 && response.status < 600);
  assert(response.content_type != "application/json" ||
         !Json::parse(response.body, nullptr, false).is_discarded());
  (void)response;
  return 0;
}
