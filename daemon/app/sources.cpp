#include "daemon/app/sources.h"

#include <fmt/format.h>

#include "daemon/base/log.h"
#include "daemon/base/text.h"
#include "daemon/ingest/files.h"
#include "daemon/ingest/grpc_server.h"
#include "daemon/ingest/imports.h"
#include "daemon/ingest/journal.h"
#include "daemon/ingest/kubernetes_watch.h"
#include "daemon/ingest/position.h"
#include "daemon/ingest/scrape.h"
#include "daemon/ingest/syslog.h"

namespace culprit::app {
namespace {

using api::Json;

constexpr std::size_t kImportSliceEvents = 500;  // each at most kBodyBytesMax and its attributes: far below what the intake takes
constexpr int kImportWaitMaxMs = 60'000;
constexpr std::size_t kConfiguredMax = 128;  // each has a thread
constexpr int kImportWaitMs = 10'000;
constexpr std::size_t kTrialSeriesMax = 100'000;
constexpr std::size_t kTrialExamplesMax = 3;

// One entry of `sources` in the configuration.
struct Configured {
  SourceRule rule;
  ingest::SourcePtr state;
  ingest::SyslogServer::Sockets sockets;
  std::unique_ptr<ingest::FileFollower> files;
  std::unique_ptr<ingest::SyslogServer> syslog;
  std::unique_ptr<ingest::Scraper> scraper;
  std::unique_ptr<ingest::JournalFollower> journal;
  std::unique_ptr<ingest::KubernetesWatcher> kubernetes;

  bool failed = false;

  void fail(const std::string& why) {
    failed = true;
    log::warn("source '{}': {}; going on without it", rule.name, why);
    state->set_state("failed", why);
  }
};

std::string target_of(const SourceRule& rule) {
  for (const char* key : {"path", "target", "listen", "server"}) {
    if (const std::string value = rule.get(key); !value.empty()) return value;
  }
  return rule.type == "journald" ? "this host's journal" : "";
}

ingest::FilesOptions files_options(const SourceRule& rule, const std::filesystem::path& state_dir, ingest::Followed* followed = nullptr) {
  return {rule.get("path"), rule.get("format", "auto"), rule.get("service"), rule.get("from", "end") == "beginning", state_dir / "positions" / rule.name, followed};
}

std::string protocol_of(const SourceRule& rule) { return rule.get("protocol", rule.get("listen").starts_with('/') ? "unix" : "both"); }

std::vector<std::string> words_of(const std::string& list) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    std::string word = list.substr(at, end - at);
    word.erase(0, std::min(word.find_first_not_of(' '), word.size()));
    if (!word.empty()) words.push_back(std::move(word));
    at = end + 1;
  }
  return words;
}

ingest::JournalOptions journal_options(const SourceRule& rule, const std::filesystem::path& state_dir, ingest::Followed* followed = nullptr) {
  return {rule.get("path"), words_of(rule.get("units")), rule.get("from", "end") == "beginning", state_dir / "positions" / rule.name, followed};
}

ingest::KubernetesOptions kubernetes_options(const SourceRule& rule, const std::filesystem::path& state_dir) {
  return {rule.get("server"), rule.get("namespace"), rule.get("token_file"), rule.get("ca_file"), state_dir / "positions" / rule.name};
}

struct ScrapeTargets {
  std::vector<ingest::ScrapeOptions> targets;
  std::size_t dropped = 0;  // by target_relabel
};

Result<std::shared_ptr<const ingest::Relabel>> relabel_of(const SourceRule& rule, const char* key) {
  const std::string steps = rule.get(key);
  if (steps.empty()) return nullptr;
  ASSIGN(const auto parsed, parse_relabel(steps));
  auto relabel = ingest::Relabel::create(parsed);
  if (!relabel) return std::unexpected(relabel.error().context(key));
  return std::make_shared<const ingest::Relabel>(std::move(*relabel));
}

Result<ScrapeTargets> scrape_targets(const SourceRule& rule) {
  ingest::ScrapeOptions options;
  const auto interval = parse_duration_ns(rule.get("interval", "15s"));
  if (!interval || *interval < kNsPerSecond) return fail(Code::Invalid, fmt::format("interval '{}': a length of at least 1s", rule.get("interval")));
  options.interval_ns = *interval;
  if (const std::string service = rule.get("service"); !service.empty()) options.target.entity = service == "host" ? "host" : "service:" + service;
  options.target.keep = words_of(rule.get("keep"));
  options.target.drop = words_of(rule.get("drop"));
  const std::string honor = rule.get("honor_labels", "false");
  if (honor != "true" && honor != "false") return fail(Code::Invalid, fmt::format("honor_labels '{}': true or false", honor));
  options.target.honor_labels = honor == "true";
  for (const std::string& label : words_of(rule.get("labels"))) {
    const std::size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0) return fail(Code::Invalid, fmt::format("labels '{}': NAME=VALUE, with commas between", label));
    options.target.labels.emplace_back(label.substr(0, equals), label.substr(equals + 1));
  }
  ASSIGN(options.target.relabel, relabel_of(rule, "relabel"));
  ASSIGN(const auto of_targets, relabel_of(rule, "target_relabel"));
  ScrapeTargets all;
  for (const std::string& target : words_of(rule.get("target"))) {
    ASSIGN(options.url, ingest::Scraper::url_of(target));
    std::optional<ingest::ScrapeOptions> wanted = ingest::Scraper::labelled(options, rule.name.empty() ? rule.type : rule.name, of_targets.get());
    if (wanted) all.targets.push_back(std::move(*wanted));
    else ++all.dropped;
  }
  if (all.targets.empty() && all.dropped == 0) return fail(Code::Invalid, fmt::format("target '{}' names none", rule.get("target")));
  return all;
}

}  // namespace

Json source_counts(const ingest::SourceStats& source) {
  Json dropped = Json::object();
  std::uint64_t lost = 0;
  for (std::size_t reason = 0; reason < ingest::kDrops; ++reason) {
    lost += source.dropped[reason];
    if (source.dropped[reason] > 0) dropped[std::string(ingest::drop_name(static_cast<ingest::Drop>(reason)))] = source.dropped[reason];
  }
  const std::uint64_t settled = source.stored + lost;
  return {{"produced", std::max(source.produced, settled)}, {"stored", source.stored}, {"in_flight", source.produced > settled ? source.produced - settled : 0}, {"dropped", dropped}};
}

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
  ingest::SourcePtr grpc_state = std::make_shared<ingest::SourceState>("otlp-grpc", "listener", parts.config.otlp_grpc);
  ingest::SourcePtr import_state = std::make_shared<ingest::SourceState>("import", "import", "culprit import FILE");
  Fd http_listener, grpc_listener;
  // One start, addition or end at a time: this lock is held over opening sockets and writing kept_file(), so nothing that must answer
  // at once takes it. `listed` is what questions see.
  Mutex changing;
  bool running GUARDED_BY(changing) = false;
  std::vector<std::unique_ptr<Configured>> configured GUARDED_BY(changing);
  std::vector<SourceRule> added GUARDED_BY(changing);  // by `culprit sources add`; kept in kept_file()
  mutable Mutex mutex;
  std::vector<ingest::SourcePtr> listed GUARDED_BY(mutex);
  // Made in this order by start(), ended in the reverse one.
  std::unique_ptr<ingest::Intake> intake;
  std::unique_ptr<ingest::Receivers> receivers;
  std::unique_ptr<ingest::HttpServer> http;
  std::unique_ptr<ingest::GrpcServer> grpc;

  std::vector<ingest::SourcePtr> all() const {
    std::vector<ingest::SourcePtr> list = {http_state, grpc_state};
    if (receivers) {
      const auto received = receivers->sources();
      list.insert(list.end(), received.begin(), received.end());
    }
    {
      const MutexLock lock(mutex);
      list.insert(list.end(), listed.begin(), listed.end());
    }
    list.push_back(import_state);
    return list;
  }

  std::filesystem::path kept_file() const { return parts.config.state_dir / "sources.yaml"; }

  bool is_taken(const std::string& name) const REQUIRES(changing) {
    return std::ranges::any_of(configured, [&](const auto& each) { return each->rule.name == name; });
  }

  void open_one(const SourceRule& rule) REQUIRES(changing) {
    const bool taken = is_taken(rule.name);
    auto one = std::make_unique<Configured>();
    one->rule = rule;
    one->state = std::make_shared<ingest::SourceState>(rule.name, rule.type, target_of(rule));
    Configured& source = *configured.emplace_back(std::move(one));
    {
      const MutexLock lock(mutex);
      listed.push_back(source.state);
    }
    if (taken) return source.fail(fmt::format("there is a source '{}' already", rule.name));  // both would write one file of positions
    if (configured.size() > kConfiguredMax) return source.fail(fmt::format("there are {} sources already", kConfiguredMax));
    if (rule.type != "syslog") return;
    auto sockets = ingest::SyslogServer::open(rule.get("listen"), protocol_of(rule));
    if (sockets) {
      source.sockets = std::move(*sockets);
    } else {
      source.fail(sockets.error().message);
    }
  }

  void start_one(Configured& source) REQUIRES(changing) {
    if (source.failed) return;
    if (source.rule.type == "file") {
      auto files = ingest::FileFollower::start(files_options(source.rule, parts.config.state_dir, &pipeline->followed()), source.state, *intake, parts.clock, resolver);
      if (files) source.files = std::move(*files);
      else source.fail(files.error().message);
    } else if (source.rule.type == "syslog" && (source.sockets.datagram || source.sockets.stream)) {
      source.syslog = ingest::SyslogServer::start(std::move(source.sockets), source.rule.get("service"), source.state, *intake, parts.clock, resolver);
    } else if (source.rule.type == "journald") {
      auto journal = ingest::JournalFollower::start(journal_options(source.rule, parts.config.state_dir, &pipeline->followed()), source.state, *intake, parts.clock, resolver);
      if (journal) source.journal = std::move(*journal);
      else source.fail(journal.error().message);
    } else if (source.rule.type == "kubernetes") {
      auto watcher = ingest::KubernetesWatcher::start(kubernetes_options(source.rule, parts.config.state_dir), source.state, *intake, parts.clock, resolver);
      if (watcher) source.kubernetes = std::move(*watcher);
      else source.fail(watcher.error().message);
    } else if (source.rule.type == "scrape") {
      auto all = scrape_targets(source.rule);
      if (!all) return source.fail(all.error().message);
      if (all->targets.empty()) return source.state->set_state("off", "target_relabel drops all of its targets");
      std::vector<std::pair<ingest::ScrapeOptions, ingest::SourcePtr>> targets;
      for (ingest::ScrapeOptions& options : all->targets) targets.emplace_back(std::move(options), source.state);
      source.scraper = ingest::Scraper::start(std::move(targets), *intake, parts.clock, resolver);
    }
  }

  // JSON is YAML: what Config reads.
  Result<void> keep() const REQUIRES(changing) {
    Json rows = Json::array();
    for (const SourceRule& rule : added) {
      Json row = {{"type", rule.type}, {"name", rule.name}};
      for (const auto& [key, value] : rule.options) row[key] = value;
      rows.push_back(std::move(row));
    }
    return ingest::replace_file(kept_file(), Json{{"sources", rows}}.dump(1) + "\n");
  }

  void open_listener(const std::string& address, const ingest::SourcePtr& state, Fd& to) const {
    if (address == "off" || address.empty()) {
      state->set_state("off", "told so by the configuration");
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

void Sources::open() {
  Impl& self = *impl_;
  self.open_listener(self.parts.config.otlp_http, self.http_state, self.http_listener);
  self.open_listener(self.parts.config.otlp_grpc, self.grpc_state, self.grpc_listener);
  const MutexLock lock(self.changing);
  for (const SourceRule& rule : self.parts.config.sources) self.open_one(rule);
  if (auto kept = Config::load(self.kept_file())) {
    self.added = kept->sources;
    for (const SourceRule& rule : self.added) self.open_one(rule);
  } else if (kept.error().code != Code::NotFound) {
    log::warn("sources that were added: {}; going on without them", kept.error().message);
  }
}

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
  if (self.grpc_listener) {
    auto server = ingest::GrpcServer::start(std::move(self.grpc_listener), *self.receivers, self.grpc_state, self.parts.clock);
    if (server) {
      self.grpc = std::move(*server);
    } else {
      log::warn("{}; going on without it", server.error().message);
      self.grpc_state->set_state("failed", server.error().message);
    }
  }
  const MutexLock lock(self.changing);
  for (const auto& source : self.configured) self.start_one(*source);
  self.running = true;
}

void Sources::stop() {
  impl_->http.reset();
  impl_->grpc.reset();
  const MutexLock lock(impl_->changing);
  impl_->running = false;
  for (const auto& source : impl_->configured) {
    source->files.reset();
    source->syslog.reset();
    source->scraper.reset();
    source->journal.reset();
    source->kubernetes.reset();
  }
}

Result<Json> Sources::test(const SourceRule& rule) const {
  TRY(check_source(rule));
  const Impl& self = *impl_;
  Json document = {{"api", 1}, {"type", rule.type}, {"target", target_of(rule)}, {"problems", Json::array()}, {"examples", Json::array()}};
  // Of its own: what a trial saw of cumulative series is no base line of the source that may come after it.
  ingest::Counters counters(kTrialSeriesMax);
  const ingest::Context context{self.parts.clock.now_ns(), self.parts.clock.wall_offset_ns(), &self.resolver, &counters};
  const auto show = [&](const std::vector<stream::Event>& events) {
    for (const stream::Event& event : events) {
      if (document["examples"].size() >= kTrialExamplesMax) break;
      document["examples"].push_back({{"time", format_wall(self.parts.clock.wall_ns(event.time_ns))}, {"entity", event.entity}, {"name", event.name}, {"value", event.value}, {"body", event.body}});
    }
  };
  if (rule.type == "file") {
    ASSIGN(const auto probe, ingest::FileFollower::probe(files_options(rule, self.parts.config.state_dir), context));
    document["text"] = fmt::format("{} files, {} of {} lines are of format {}", probe.files.size(), probe.fits, probe.lines, rule.get("format", "auto"));
    document["problems"] = probe.problems;
    show(probe.examples);
  } else if (rule.type == "journald") {
    ASSIGN(const auto probe, ingest::JournalFollower::probe(journal_options(rule, self.parts.config.state_dir), context));
    document["text"] = probe.text;
    document["problems"] = probe.problems;
    show(probe.examples);
  } else if (rule.type == "kubernetes") {
    ASSIGN(const auto decoded, ingest::KubernetesWatcher::probe(kubernetes_options(rule, self.parts.config.state_dir), context));
    document["text"] = fmt::format("events can be listed; the first {} are shown", decoded.records);
    if (decoded.rejected > 0) document["problems"].push_back(decoded.rejected_why);
    show(decoded.events);
  } else if (rule.type == "scrape") {
    ASSIGN(const auto all, scrape_targets(rule));
    std::uint64_t samples = 0, cumulative = 0;
    for (const ingest::ScrapeOptions& options : all.targets) {
      auto decoded = ingest::Scraper::probe(options, context);
      if (!decoded) {
        if (all.targets.size() == 1) return std::unexpected(decoded.error());
        document["problems"].push_back(decoded.error().message);
        continue;
      }
      samples += decoded->records;
      cumulative += decoded->baselines;
      if (decoded->rejected > 0) document["problems"].push_back(fmt::format("{}: {} rejected: {}", options.url, decoded->rejected, decoded->rejected_why));
      show(decoded->events);
    }
    document["text"] = fmt::format("{} targets, {} dropped by target_relabel; {} samples, {} of them cumulative", all.targets.size(), all.dropped, samples, cumulative);
  } else {
    TRY(ingest::SyslogServer::open(rule.get("listen"), protocol_of(rule)));
    document["text"] = fmt::format("'{}' can be listened on", rule.get("listen"));
  }
  return document;
}

Result<Json> Sources::add(SourceRule rule) {
  TRY(check_source(rule));
  Impl& self = *impl_;
  if (const MutexLock lock(self.changing); self.is_taken(rule.name)) return fail(Code::Invalid, fmt::format("there is a source '{}' already", rule.name));
  ASSIGN(Json document, test(rule));
  const MutexLock lock(self.changing);  // the trial took its time: looked at once more
  if (!self.running) return fail(Code::Busy, "the daemon is stopping");
  if (self.configured.size() >= kConfiguredMax) return fail(Code::Exhausted, fmt::format("there are {} sources already", kConfiguredMax));
  if (rule.name.empty()) {
    std::size_t number = self.configured.size() + 1;
    do rule.name = fmt::format("{}-{}", rule.type, number++);
    while (self.is_taken(rule.name));
  } else if (self.is_taken(rule.name)) {
    return fail(Code::Invalid, fmt::format("there is a source '{}' already", rule.name));
  }
  self.added.push_back(rule);
  if (auto kept = self.keep(); !kept) {
    self.added.pop_back();
    return std::unexpected(kept.error());
  }
  self.open_one(rule);
  self.start_one(*self.configured.back());
  document["source"] = rule.name;
  return document;
}

std::vector<ingest::SourceStats> Sources::stats() const {
  std::vector<ingest::SourceStats> stats;
  for (const ingest::SourcePtr& source : impl_->all()) stats.push_back(source->stats());
  return stats;
}

Json Sources::document() const {
  Json rows = Json::array();
  for (const ingest::SourceStats& source : stats()) {
    Json row = source_counts(source);
    row.update({{"source", source.name}, {"type", source.type}, {"target", source.target}, {"state", source.state}, {"text", source.text}, {"requests", source.requests},
                    {"refused", source.refused}, {"malformed", source.malformed}, {"bytes", source.bytes}, {"times_corrected", source.times_corrected},
                    {"cut", source.cut}, {"baselines", source.baselines},
                    {"last_event", source.last_event_ns == 0 ? Json(nullptr) : Json(format_wall(impl_->parts.clock.wall_ns(source.last_event_ns)))},
                    {"last_error", source.last_error.empty() ? Json(nullptr) : Json(source.last_error)}});
    rows.push_back(std::move(row));
  }
  Json rollup = Json::object();
  if (impl_->pipeline != nullptr) {
    const ingest::RollupStats told = impl_->pipeline->stream_stage().rollup_stats();
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
  std::uint64_t stored = 0;
  int waited_ms = 0;
  while (stored < count) {
    const std::size_t end = std::min<std::size_t>(count, stored + kImportSliceEvents);
    const auto at = [&](std::uint64_t index) { return std::make_move_iterator(decoded.events.begin() + static_cast<std::ptrdiff_t>(index)); };
    std::vector<stream::Event> slice(at(stored), at(end));
    while (true) {
      // NOLINTNEXTLINE(bugprone-use-after-move): what is not taken is left there
      auto taken = self.intake->submit(self.import_state, std::move(slice), kImportWaitMs);
      if (taken) break;
      waited_ms += kImportWaitMs;
      if (stored == 0) return std::unexpected(taken.error());  // nothing of it: it can be imported again
      if (taken.error().code != Code::Busy || waited_ms >= kImportWaitMaxMs) return std::unexpected(taken.error().context(fmt::format("import '{}': only the first {} of its {} events are stored", sanitize_utf8(name.substr(0, 256)), stored, count)));
    }
    stored = end;
  }
  self.import_state->note(decoded);
  const std::int64_t offset_ns = self.parts.clock.wall_offset_ns();  // read once, so that the first is not after the last
  const auto wall = [&](std::int64_t time_ns) { return count == 0 ? Json(nullptr) : Json(format_wall(time_ns + offset_ns)); };
  return Json{{"api", 1}, {"records", decoded.records}, {"events", count}, {"rejected", decoded.rejected},
              {"rejected_why", decoded.rejected == 0 ? Json(nullptr) : Json(decoded.rejected_why)}, {"first", wall(first)}, {"last", wall(last)}};
}

}  // namespace culprit::app
