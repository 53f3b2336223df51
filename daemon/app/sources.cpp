#include "daemon/app/sources.h"

#include <fmt/format.h>

#include "daemon/base/log.h"
#include "daemon/base/text.h"
#include "daemon/ingest/imports.h"

namespace culprit::app {
namespace {

using api::Json;

constexpr std::size_t kImportSliceEvents = 20'000;
constexpr int kImportWaitMs = 10'000;

}  // namespace

std::string TrackResolver::service_of_pid(std::uint32_t pid) const {
  if (pipeline_ == nullptr) return {};
  for (const auto& service : pipeline_->track_view()->services) {
    if (std::ranges::find(service.pids, pid) != service.pids.end()) return service.name;
  }
  return {};
}

std::string TrackResolver::service_of_container(std::string_view container_id) const {
  if (pipeline_ == nullptr || container_id.size() < 12) return {};
  for (const auto& service : pipeline_->track_view()->services) {
    if (service.cgroup.find(container_id) != std::string::npos) return service.name;
  }
  return {};
}

std::string TrackResolver::service_of_port(std::uint16_t port) const {
  if (pipeline_ == nullptr) return {};
  for (const auto& service : pipeline_->track_view()->services) {
    if (std::ranges::find(service.ports, port) != service.ports.end()) return service.name;
  }
  return {};
}

struct Sources::Impl {
  explicit Impl(Parts p) : parts(std::move(p)), resolver(parts.host_name) {}

  Parts parts;
  TrackResolver resolver;
  Pipeline* pipeline = nullptr;
  ingest::SourcePtr http_state = std::make_shared<ingest::SourceState>("otlp-http", "listener", parts.config.otlp_http);
  ingest::SourcePtr import_state = std::make_shared<ingest::SourceState>("import", "import", "culprit import FILE");
  Fd http_listener;
  // Made in this order by start(), ended in the reverse one.
  std::unique_ptr<ingest::Intake> intake;
  std::unique_ptr<ingest::Receivers> receivers;
  std::unique_ptr<ingest::HttpServer> http;

  std::vector<ingest::SourcePtr> all() const {
    std::vector<ingest::SourcePtr> list = {http_state};
    if (receivers) {
      const auto received = receivers->sources();
      list.insert(list.end(), received.begin(), received.end());
    }
    list.push_back(import_state);
    return list;
  }

  void open_listener(const std::string& address, const ingest::SourcePtr& state, Fd& to) const {
    if (address == "off" || address.empty()) {
      state->set_state("off", "otlp_http is off");
      return;
    }
    auto fd = ingest::listen_stream(address);
    if (!fd) {
      log::warn("{}; going on without it", fd.error().message);
      state->set_state("failed", fd.error().message);
      return;
    }
    to = std::move(*fd);
    state->set_state("running", fmt::format("listening on {}", address));
  }
};

Sources::Sources(Parts parts) : impl_(std::make_unique<Impl>(std::move(parts))) {}
Sources::~Sources() { stop(); }

void Sources::open() { impl_->open_listener(impl_->parts.config.otlp_http, impl_->http_state, impl_->http_listener); }

void Sources::start(Pipeline& pipeline) {
  Impl& self = *impl_;
  self.pipeline = &pipeline;
  self.resolver.attach(&pipeline);
  self.intake = std::make_unique<ingest::Intake>(ingest::Intake::Options{}, [&pipeline](ingest::Batch&& batch) { return pipeline.ingest(std::move(batch)); });
  self.receivers = std::make_unique<ingest::Receivers>(ingest::ReceiverParts{self.parts.clock, self.resolver, *self.intake});
  if (self.http_listener) {
    auto server = ingest::HttpServer::start(std::move(self.http_listener), *self.receivers);
    if (server) {
      self.http = std::move(*server);
    } else {
      log::warn("{}; going on without it", server.error().message);
      self.http_state->set_state("failed", server.error().message);
    }
  }
}

void Sources::stop() { impl_->http.reset(); }

std::vector<ingest::SourceStats> Sources::stats() const {
  std::vector<ingest::SourceStats> stats;
  for (const ingest::SourcePtr& source : impl_->all()) stats.push_back(source->stats());
  return stats;
}

Json Sources::document() const {
  Json rows = Json::array();
  for (const ingest::SourceStats& source : stats()) {
    Json dropped = Json::object();
    std::uint64_t lost = 0;
    for (std::size_t reason = 0; reason < ingest::kDrops; ++reason) {
      lost += source.dropped[reason];
      if (source.dropped[reason] > 0) dropped[std::string(ingest::drop_name(static_cast<ingest::Drop>(reason)))] = source.dropped[reason];
    }
    const std::uint64_t settled = source.stored + lost;
    rows.push_back({{"source", source.name}, {"type", source.type}, {"target", source.target}, {"state", source.state}, {"text", source.text},
                    {"produced", std::max(source.produced, settled)}, {"stored", source.stored},
                    {"in_flight", source.produced > settled ? source.produced - settled : 0}, {"dropped", dropped}, {"requests", source.requests},
                    {"refused", source.refused}, {"malformed", source.malformed}, {"bytes", source.bytes}, {"times_corrected", source.times_corrected},
                    {"cut", source.cut}, {"baselines", source.baselines},
                    {"last_event", source.last_event_ns == 0 ? Json(nullptr) : Json(format_wall(impl_->parts.clock.wall_ns(source.last_event_ns)))},
                    {"last_error", source.last_error.empty() ? Json(nullptr) : Json(source.last_error)}});
  }
  Json rollup = Json::object();
  if (impl_->pipeline != nullptr) {
    const ingest::RollupStats told = impl_->pipeline->rollup_stats();
    rollup = {{"counted", told.counted}, {"late", told.late}, {"refused", told.refused}, {"samples", told.samples}};
  }
  return Json{{"api", 1}, {"sources", rows}, {"rollup", rollup}};
}

Result<Json> Sources::import(const std::string& name, const std::string& format, std::string_view bytes) {
  Impl& self = *impl_;
  ingest::Decoded decoded;
  ++self.import_state->requests;
  self.import_state->bytes += bytes.size();
  if (auto done = ingest::decode_file(format.empty() ? "auto" : format, bytes, self.receivers->context(), decoded); !done) {
    ++self.import_state->malformed;
    self.import_state->set_error(done.error().message);
    return std::unexpected(done.error().context(fmt::format("import '{}'", sanitize_utf8(name.substr(0, 256)))));
  }
  const std::uint64_t count = decoded.events.size();
  std::int64_t first = INT64_MAX, last = INT64_MIN;
  for (const stream::Event& event : decoded.events) {
    first = std::min(first, event.time_ns);
    last = std::max(last, event.time_ns);
  }
  for (std::size_t at = 0; at < decoded.events.size(); at += kImportSliceEvents) {
    const auto from = decoded.events.begin() + static_cast<std::ptrdiff_t>(at);
    const auto to = decoded.events.begin() + static_cast<std::ptrdiff_t>(std::min(decoded.events.size(), at + kImportSliceEvents));
    TRY(self.intake->submit(self.import_state, {std::make_move_iterator(from), std::make_move_iterator(to)}, kImportWaitMs));
  }
  self.import_state->note(decoded);
  const auto wall = [&](std::int64_t time_ns) { return count == 0 ? Json(nullptr) : Json(format_wall(self.parts.clock.wall_ns(time_ns))); };
  return Json{{"api", 1}, {"records", decoded.records}, {"events", count}, {"rejected", decoded.rejected},
              {"rejected_why", decoded.rejected == 0 ? Json(nullptr) : Json(decoded.rejected_why)}, {"first", wall(first)}, {"last", wall(last)}};
}

}  // namespace culprit::app
