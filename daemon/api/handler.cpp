#include "daemon/api/handler.h"

#include <fmt/format.h>

#include <exception>

#include "daemon/api/query.h"
#include "daemon/base/log.h"
#include "daemon/base/text.h"

namespace culprit::api {
namespace {

constexpr std::string_view kIncidents = "/api/v1/incidents/";
constexpr std::string_view kTraces = "/api/v1/traces/";

std::string dump(const Json& document) {
  // Names and log lines come from outside: bytes that are no UTF-8 are replaced, never thrown over.
  return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Response answer(const Result<Json>& document) {
  if (!document) return error_response(document.error());
  return {.body = dump(*document)};
}

Response text_answer(Result<std::string> text, std::string_view content_type) {
  if (!text) return error_response(text.error());
  return {.content_type = std::string(content_type), .body = std::move(*text)};
}

// "localhost:7117" -> "localhost"; "[::1]:7117" -> "[::1]".
std::string_view host_name(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, std::min(host.find(']'), host.size() - 1) + 1);
  return host.substr(0, host.find(':'));
}

// Loopback only: the checks that keep a page of another site from reading through the user's browser.
std::optional<Response> refuse(const Request& request) {
  const std::string_view name = host_name(request.host);
  if (name != "localhost" && name != "127.0.0.1" && name != "[::1]") {
    return error_response(
        403, "denied",
        "the Host header is neither localhost nor 127.0.0.1: open http://127.0.0.1:<port>/ itself");
  }
  if (!request.origin.empty() && request.origin != "http://" + request.host) {
    return error_response(403, "denied", "this address answers only its own page, not another site's");
  }
  if (request.fetch_site == "cross-site" && request.target.starts_with("/api/")) {
    return error_response(403, "denied", "this address answers only its own page, not another site's");
  }
  return std::nullopt;
}

Response not_allowed(std::string_view allow) {
  Response response = error_response(405, "method", fmt::format("this address answers only {}", allow));
  response.allow = allow;
  return response;
}

Response why(const Request& request, Backend& backend) {
  const auto parsed = parse_why(request.body);
  if (!parsed) return error_response(parsed.error());
  const auto document = backend.why(*parsed);
  if (document) return {.body = dump(*document)};
  std::vector<std::string> suggestions;
  if (document.error().code == Code::NotFound) {
    const std::vector<std::string> names = backend.service_names();
    suggestions = nearest(parsed->service, names);
    if (suggestions.empty())
      suggestions.assign(names.begin(), names.begin() + std::min<std::ptrdiff_t>(10, std::ssize(names)));
  }
  return error_response(document.error(), std::move(suggestions));
}

Response incident(const Request& request, std::string_view rest, Backend& backend) {
  const std::size_t slash = rest.find('/');
  const auto id = parse_incident_id(rest.substr(0, slash));
  if (!id) return error_response(id.error());
  const std::string_view part = slash == std::string_view::npos ? "" : rest.substr(slash + 1);
  if (part == "feedback") {
    if (request.method != "POST") return not_allowed("POST");
    if (request.door == Door::Loopback) {
      return error_response(403, "denied",
                            "feedback is taken only on the Unix socket: use `culprit feedback`");
    }
    const auto feedback = parse_feedback(request.body);
    if (!feedback) return error_response(feedback.error());
    return answer(backend.feedback(*id, *feedback));
  }
  if (request.method != "GET") return not_allowed("GET");
  if (slash == std::string_view::npos) return answer(backend.incident(*id));
  if (part == "export") return text_answer(backend.export_incident(*id), "application/x-ndjson");
  return error_response(404, "not_found", "no such address",
                        {std::string(kIncidents) + "N/export", std::string(kIncidents) + "N/feedback"});
}

// The plain GETs: one row each.
struct Route {
  std::string_view path;
  Result<Json> (Backend::*get)();
};
constexpr Route kRoutes[] = {
    {"/api/v1/summary", &Backend::summary},     {"/api/v1/services", &Backend::services},
    {"/api/v1/incidents", &Backend::incidents}, {"/api/v1/status", &Backend::status},
    {"/api/v1/doctor", &Backend::doctor},       {"/api/v1/config", &Backend::config},
    {"/api/v1/sources", &Backend::sources},
    {"/api/v1/store", &Backend::store},
    {"/api/v1/rules", &Backend::rules},
};

Response unknown_path(const std::string& path) {
  std::vector<std::string> paths = {"/", "/metrics", "/api/v1/why", "/api/v1/events", "/api/v1/diff", "/api/v1/series", "/api/v1/similar", "/api/v1/logs"};
  for (const Route& route : kRoutes) paths.emplace_back(route.path);
  std::vector<std::string> suggestions = nearest(path.substr(0, 128), paths);
  return error_response(404, "not_found", "no such address", std::move(suggestions));
}

Response route(const Request& request, const Target& target, Backend& backend, std::span<const Asset> page) {
  const std::string& path = target.path;
  if (path == "/api/v1/import") {
    if (request.method != "POST") return not_allowed("POST");
    if (request.door == Door::Loopback) {
      return error_response(403, "denied", "files are imported only on the Unix socket: use `culprit import`");
    }
    const auto value = [&](std::string_view key) {
      const auto found = std::ranges::find(target.parameters, key, [](const auto& pair) { return std::string_view(pair.first); });
      return found == target.parameters.end() ? std::string() : found->second;
    };
    return answer(backend.import({value("name"), value("format"), request.body}));
  }
  if (path == "/api/v1/sources/test" || path == "/api/v1/sources/add") {
    if (request.method != "POST") return not_allowed("POST");
    if (request.door == Door::Loopback) return error_response(403, "denied", "sources are changed only on the Unix socket: use `culprit sources`");
    auto source = parse_source(request.body);
    if (!source) return error_response(source.error());
    source->add = path.ends_with("add");
    return answer(backend.source(*source));
  }
  if (path == "/api/v1/logs") {
    if (request.method != "GET") return not_allowed("GET");
    const auto query = parse_logs_query(target.parameters);
    if (!query) return error_response(query.error());
    return answer(backend.logs(*query));
  }
  if (path == "/api/v1/similar") {
    if (request.method != "GET") return not_allowed("GET");
    const auto query = parse_similar_query(target.parameters);
    return query ? answer(backend.similar(*query)) : error_response(query.error());
  }
  if (path.starts_with(kTraces)) {
    if (request.method != "GET") return not_allowed("GET");
    return answer(backend.trace(path.substr(kTraces.size())));
  }
  if (path == "/api/v1/why") {
    if (request.method != "POST") return not_allowed("POST");
    if (request.door == Door::Loopback && !request.content_type.starts_with("application/json")) {
      return error_response(400, "invalid", "POST needs Content-Type: application/json");
    }
    return why(request, backend);
  }
  if (path == "/api/v1/rules/reload") {
    if (request.method != "POST") return not_allowed("POST");
    if (request.door == Door::Loopback) {
      return error_response(403, "denied", "rules are reloaded only on the Unix socket: use `culprit rules apply`");
    }
    return answer(backend.reload_rules());
  }
  if (path.starts_with(kIncidents))
    return incident(request, std::string_view(path).substr(kIncidents.size()), backend);
  const auto* plain = std::ranges::find(kRoutes, std::string_view(path), &Route::path);
  const auto asset = std::ranges::find(page, std::string_view(path), &Asset::path);
  const bool events = path == "/api/v1/events";
  const bool diff = path == "/api/v1/diff";
  const bool series = path == "/api/v1/series";
  const bool metrics = path == "/metrics";
  if (plain == std::end(kRoutes) && asset == page.end() && !events && !diff && !series && !metrics) return unknown_path(path);
  if (request.method != "GET") return not_allowed("GET");
  if (plain != std::end(kRoutes)) return answer((backend.*plain->get)());
  if (metrics) return text_answer(backend.metrics_text(), "text/plain; version=0.0.4; charset=utf-8");
  if (events) {
    const auto query = parse_event_query(target.parameters);
    if (!query) return error_response(query.error());
    return answer(backend.events(*query));
  }
  if (diff) {
    const auto query = parse_diff_query(target.parameters);
    return query ? answer(backend.diff(*query)) : error_response(query.error());
  }
  if (series) {
    const auto query = parse_series_query(target.parameters);
    return query ? answer(backend.series(*query)) : error_response(query.error());
  }
  return {.content_type = std::string(asset->content_type), .body = std::string(asset->bytes)};
}

struct CodeStatus {
  Code code;
  unsigned status;
  std::string_view name;
};
constexpr CodeStatus kStatuses[] = {
    {Code::NotFound, 404, "not_found"},
    {Code::Invalid, 400, "invalid"},
    {Code::Unsupported, 501, "unsupported"},
    {Code::Denied, 403, "denied"},
    {Code::Busy, 503, "busy"},
    {Code::Corrupt, 500, "internal"},
    {Code::Io, 500, "internal"},
    {Code::Exhausted, 503, "exhausted"},
};

}  // namespace

Response error_response(unsigned status, std::string_view code, std::string message,
                        std::vector<std::string> suggestions) {
  return {
      .status = status,
      .body = dump(
          {{"error",
            {{"code", code}, {"message", std::move(message)}, {"suggestions", std::move(suggestions)}}}})};
}

Response error_response(const Error& error, std::vector<std::string> suggestions) {
  const auto* entry = std::ranges::find(kStatuses, error.code, &CodeStatus::code);
  const bool known = entry != std::end(kStatuses);
  return error_response(known ? entry->status : 500, known ? entry->name : "internal", error.message,
                        std::move(suggestions));
}

Response handle(const Request& request, Backend& backend, std::span<const Asset> page) {
  try {
    if (request.door == Door::Loopback) {
      if (auto refused = refuse(request)) return *refused;
    }
    if (request.method != "GET" && request.method != "POST") return not_allowed("GET, HEAD, POST");
    const auto target = parse_target(request.target);
    if (!target) return error_response(target.error());
    return route(request, *target, backend, page);
  } catch (const std::exception& error) {
    // A document that the backend built wrongly, or no memory: this request fails, the daemon goes on.
    log::error("api: request failed, answering 500: {}", error.what());
    return error_response(500, "internal", fmt::format("internal error: {}", error.what()));
  }
}

}  // namespace culprit::api
