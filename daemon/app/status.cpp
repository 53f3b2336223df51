// The documents about the daemon itself: status, doctor, metrics.
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/app/live_backend.h"
#include "daemon/base/text.h"

namespace culprit::app {
namespace {

using api::Json;

Json check(const char* group, std::string name, const char* state, std::string text, const std::string& fix = {}) {
  return {{"group", group}, {"name", std::move(name)}, {"state", state}, {"text", std::move(text)}, {"fix", fix.empty() ? Json(nullptr) : Json(fix)}};
}

}  // namespace

// For each source produced = stored + in_flight + the sum of dropped, exactly, from counters read one after the other:
// what is produced between two reads shows as in flight.
Result<Json> LiveBackend::status() {
  const std::int64_t now = parts_.clock.now_ns();
  const double uptime_s = static_cast<double>(now - parts_.started_ns) / kNsPerSecond;
  const auto rate = [&](std::uint64_t count) { return uptime_s > 0 ? static_cast<double>(count) / uptime_s : 0.0; };
  Json sources = Json::array();
  const track::TrackStats track = parts_.pipeline.track_view()->stats;
  const collect::CollectorCounts counts = parts_.pipeline.collector_counts();
  for (std::uint32_t kind = 1; kind < CULPRIT_EVENT_KINDS; ++kind) {
    const collect::KindCounts& row = counts.kinds[kind];
    std::uint64_t lost = 0;
    Json dropped = Json::object();
    for (std::uint32_t reason = 0; reason < CULPRIT_DROPS; ++reason) {
      lost += row.dropped[reason];
      if (row.dropped[reason] > 0) dropped[std::string(collect::drop_name(reason))] = row.dropped[reason];
    }
    const std::uint64_t settled = row.received + lost;
    sources.push_back({{"source", fmt::format("kernel:{}", collect::kind_name(kind))}, {"produced", std::max(row.produced, settled)}, {"stored", row.received},
                       {"in_flight", row.produced > settled ? row.produced - settled : 0}, {"dropped", dropped}, {"per_s", rate(row.produced)}});
  }
  sources.push_back({{"source", "track"}, {"produced", track.records_in}, {"stored", track.processed}, {"in_flight", track.pending},
                     {"dropped", {{"bad_size", track.dropped_bad_size}, {"unknown_kind", track.dropped_unknown_kind}}}, {"per_s", rate(track.records_in)}});
  const stream::StoreStats store = parts_.store.stats();
  std::uint64_t store_lost = 0;
  for (const auto& [reason, count] : store.dropped) store_lost += count;
  sources.push_back({{"source", "stream"}, {"produced", store.appended}, {"stored", store.stored}, {"in_flight", store.appended - store.stored - store_lost},
                     {"dropped", store.dropped}, {"per_s", rate(store.appended)}});

  for (const ingest::SourceStats& source : parts_.sources.stats()) {
    if (source.requests == 0 && source.produced == 0) continue;  // nobody uses it
    Json row = source_counts(source);
    row.update({{"source", "ingest:" + source.name}, {"per_s", rate(source.produced)}});
    sources.push_back(std::move(row));
  }

  Json channels = Json::array();
  Json maps = Json::array();
  const auto primitives = parts_.registry.snapshot();
  for (const concurrent::ChannelStats& channel : primitives.channels) {
    Json dropped = Json::object();
    for (std::size_t i = 0; i < concurrent::kDropReasons; ++i) {
      if (channel.dropped[i] > 0) dropped[std::string(concurrent::drop_reason_name(static_cast<concurrent::DropReason>(i)))] = channel.dropped[i];
    }
    channels.push_back({{"name", channel.name}, {"capacity", channel.capacity}, {"length", channel.length}, {"send_index", channel.send_index},
                        {"receive_index", channel.recv_index}, {"parked_senders", channel.parked_senders}, {"parked_receivers", channel.parked_receivers},
                        {"sent", channel.sent}, {"received", channel.received}, {"dropped", channel.dropped_total()}, {"dropped_by_reason", dropped},
                        {"high_water", channel.high_water}, {"blocked_s", static_cast<double>(channel.blocked_ns) / kNsPerSecond},
                        {"idle_s", static_cast<double>(channel.idle_ns) / kNsPerSecond}, {"closed", channel.closed}});
  }
  for (const concurrent::MapStats& map : primitives.maps) {
    maps.push_back({{"name", map.name}, {"entries", map.entries}, {"max_entries", map.max_entries}, {"segments", map.segments}, {"load", map.load}, {"splits", map.splits},
                    {"tombstones", map.tombstones}, {"bytes", map.bytes}, {"longest_insert_s", static_cast<double>(map.longest_insert_ns) / kNsPerSecond},
                    {"inserted", map.inserted}, {"erased", map.erased}, {"refused", map.refused}, {"crowded", map.crowded}});
  }
  const SensorView sensor = parts_.pipeline.sensor_view();
  Json tables = Json::array();
  for (const sensor::TableSample& table : sensor.tables) {
    tables.push_back({{"name", table.name}, {"entries", table.entries}, {"limit", table.limit}, {"full", table.full}});
  }
  Json missed = Json::object();
  for (const sensor::ProgramSample& program : sensor.programs) {
    if (program.missed > 0) missed[program.name] = program.missed;
  }
  const ProcessCost own = host_.own_cost();
  const DiagnosisStats diagnosis = parts_.diagnosis.stats();
  const logs::MinerStats miner = parts_.pipeline.stream_stage().log_names().stats();
  const ingest::JoinStats join = parts_.pipeline.stream_stage().join_stats();
  const ingest::LineTwinStats twins = parts_.pipeline.stream_stage().line_twin_stats();
  return Json{
      {"api", 1}, {"time", wall(now)}, {"version", parts_.version}, {"pid", ::getpid()}, {"uptime_s", uptime_s}, {"sources", sources},
      {"channels", channels}, {"maps", maps}, {"kernel_tables", tables}, {"kernel_runs_missed", missed},
      {"calls", {{"returns_observed_share", sensor.returns_share}, {"entries_observed_share", sensor.entries_share}, {"watched_rested_share", sensor.rested_share}}},
      {"stream", {{"events", store.stored}, {"in_memory", store.in_memory}, {"pending", store.pending}, {"disk_bytes", store.on_disk_bytes},
                  {"oldest", store.stored > 0 ? Json(wall(store.oldest_ns)) : Json(nullptr)}, {"newest", store.stored > 0 ? Json(wall(store.newest_ns)) : Json(nullptr)}}},
      {"track", {{"processes", track.processes}, {"services", track.services}, {"sockets", track.sockets}, {"edges", track.edges}, {"requests_open", track.requests_open},
                 {"late", track.late}, {"http_truncated", track.http_truncated}, {"http_resyncs", track.http_resyncs}, {"stream_gaps", track.stream_gaps}, {"answers_unmatched", track.answers_unmatched},
                 {"calls_ambiguous", track.calls_ambiguous}, {"lines_ambiguous", track.lines_ambiguous}, {"lines_dropped", track.lines_dropped}, {"lines_cut", track.lines_cut},
                 {"spans_sampled_out", track.spans_sampled_out}, {"processes_refused", track.processes_refused}, {"services_refused", track.services_refused},
                 {"sockets_evicted", track.sockets_evicted}, {"edges_refused", track.edges_refused}, {"requests_refused", track.requests_refused}}},
      {"logs", {{"lines", miner.lines}, {"templates", miner.templates}, {"evicted", miner.evicted}, {"merged", miner.merged}, {"cut", miner.cut}}},
      {"join", {{"by_trace", join.by_trace}, {"by_time", join.by_time}, {"late", join.late}, {"alone", join.alone}, {"pushed_out", join.pushed_out}, {"lines", join.lines}, {"held", join.held},
                {"lines_in_files", twins.files}, {"lines_in_journal", twins.journal}, {"lines_joined", twins.joined}, {"lines_held", twins.held}}},
      {"detect", {{"services", diagnosis.detector.services}, {"services_refused", diagnosis.detector.services_refused},
                  {"series_too_long", parts_.pipeline.stream_stage().series().refused_long()},
                  {"rules_left_out", parts_.pipeline.stream_stage().told_left_out()},
                  {"incidents_opened", diagnosis.detector.incidents_opened}, {"learned_s", parts_.diagnosis.learned()},
                  {"explained", diagnosis.explained}, {"explain_s_last", diagnosis.explain_s_last}, {"explain_s_max", diagnosis.explain_s_max}}},
      {"processes", Json::array({
          {{"name", "culpritd"}, {"pid", ::getpid()}, {"state", "running"}, {"cpu_s", static_cast<double>(own.cpu_ns) / kNsPerSecond},
           {"cpu_share", uptime_s > 0 ? static_cast<double>(own.cpu_ns) / kNsPerSecond / uptime_s : 0.0}, {"rss_bytes", own.rss_bytes}},
          {{"name", "culprit-sensor"}, {"pid", sensor.hello.sensor_pid}, {"state", sensor.connected ? "running" : "gone"},
           {"cpu_s", static_cast<double>(sensor.cpu_ns) / kNsPerSecond}, {"cpu_share", uptime_s > 0 ? static_cast<double>(sensor.cpu_ns) / kNsPerSecond / uptime_s : 0.0},
           {"rss_bytes", sensor.rss_bytes}, {"restarts", sensor.client.sensors > 0 ? sensor.client.sensors - 1 : 0}}})},
      {"completeness", completeness()}};
}

Result<Json> LiveBackend::doctor() {
  const SensorView sensor = parts_.pipeline.sensor_view();
  Json checks = Json::array();
  Json programs = Json::array();
  checks.push_back(sensor.connected ? check("sensor", "running", "ok", fmt::format("pid {}, kernel {}", sensor.hello.sensor_pid, sensor.hello.kernel_release))
                                    : check("sensor", "running", "fail", sensor.lost_reason.empty() ? "not started yet" : sensor.lost_reason,
                                            "culpritd must start as root: sudo ./dev run, or systemctl start culprit"));
  const bool btf = ::access("/sys/kernel/btf/vmlinux", R_OK) == 0;
  checks.push_back(btf ? check("kernel", "BTF", "ok", "/sys/kernel/btf/vmlinux")
                       : check("kernel", "BTF", "fail", "/sys/kernel/btf/vmlinux is missing: no program can be loaded", "use a kernel built with CONFIG_DEBUG_INFO_BTF"));
  const bool pressure = ::access("/proc/pressure/cpu", R_OK) == 0;
  checks.push_back(check("kernel", "pressure stall information", pressure ? "ok" : "off", pressure ? "/proc/pressure" : "not offered; run-queue and disk waits stand in for it"));
  for (const std::string& note : sensor.hello.notes) checks.push_back(check("sensor", "note", "warn", note));
  std::size_t attached = 0;
  for (const sensor::Program& program : sensor.hello.programs) {
    const bool good = program.state == sensor::ProgramState::Attached;
    attached += good ? 1 : 0;
    programs.push_back({{"program", program.name}, {"hook", program.family}, {"state", good ? "attached" : "skipped"},
                        {"reason", program.reason.empty() ? Json(nullptr) : Json(program.reason)}, {"instructions", program.instructions}});
  }
  checks.push_back(check("sensor", "programs", attached == sensor.hello.programs.size() && attached > 0 ? "ok" : "warn", fmt::format("{} of {} attached", attached, sensor.hello.programs.size())));
  checks.push_back(check("sensor", "system calls", "ok",
                         fmt::format("failures seen {:.0f} % of the last second, opens timed {:.0f} % (always while a target is watched or something is wrong; "
                                     "calls_percent otherwise)", 100 * sensor.returns_share, 100 * sensor.entries_share)));
  if (sensor.rested_share > 0.01) {
    checks.push_back(check("sensor", "watched calls", "warn", fmt::format("left alone {:.0f} % of the last second: more than payload_per_second = {} records a CPU",
                                                                          100 * sensor.rested_share, parts_.config.payload_per_second),
                           "raise payload_per_second to see more, at the price of what is watched"));
  }
  for (const sensor::TableSample& table : sensor.tables) {
    if (table.full > 0) checks.push_back(check("kernel", "map " + table.name, "warn", fmt::format("full: {} updates found no room (limit {})", table.full, table.limit)));
  }
  checks.push_back(check("rights", "daemon", "ok", fmt::format("runs as {} (uid {}) with no capabilities and a seccomp filter", parts_.user, ::getuid())));
  if (parts_.user != parts_.config.user) {
    checks.push_back(check("rights", "user", "warn", fmt::format("there is no user '{}'; running as '{}'", parts_.config.user, parts_.user), "systemd-sysusers, or useradd -r " + parts_.config.user));
  }
  checks.push_back(check("clock", "wall clock", parts_.clock.wall_ns(parts_.clock.now_ns()) > 1'600'000'000LL * kNsPerSecond ? "ok" : "warn", wall(parts_.clock.now_ns())));
  struct statvfs disk {};
  if (::statvfs(parts_.config.state_dir.c_str(), &disk) == 0) {
    const auto available = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
    const bool enough = available > 1e8;
    checks.push_back(check("disk", parts_.config.state_dir.string(), enough ? "ok" : "warn", format_bytes(available) + " available",
                           enough ? "" : "free some space, or set retention_bytes lower"));
  }
  for (const ingest::SourceStats& source : parts_.sources.stats()) {
    if (source.state != "failed") continue;
    checks.push_back(check("sources", source.name, "warn", source.text, "change its entry in the configuration (culprit sources list shows all)"));
  }
  if (parts_.config.watch.empty()) {
    checks.push_back(check("configuration", "watch", "warn", "no targets: requests and log lines are not read", "start with --watch unit:NAME, or set watch in the configuration"));
  }
  return Json{{"api", 1}, {"checks", checks}, {"programs", programs}};
}

Result<std::string> LiveBackend::metrics_text() {
  ASSIGN(const Json status, this->status());
  std::string text;
  const auto head = [&](std::string_view name, std::string_view type, std::string_view help) {
    text += fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
  };
  head("culprit_events_produced_total", "counter", "Events that a source made, counted where they are made.");
  for (const Json& source : status["sources"]) {
    text += fmt::format("culprit_events_produced_total{{source=\"{}\"}} {}\n", source["source"].get<std::string>(), source["produced"].get<std::uint64_t>());
  }
  head("culprit_events_dropped_total", "counter", "Events lost, by reason.");
  for (const Json& source : status["sources"]) {
    for (const auto& [reason, count] : source["dropped"].items()) {
      text += fmt::format("culprit_events_dropped_total{{source=\"{}\",reason=\"{}\"}} {}\n", source["source"].get<std::string>(), reason, count.get<std::uint64_t>());
    }
  }
  struct Family {
    const char* field;
    const char* name;
    const char* type;
    const char* help;
  };
  const auto family = [&](const char* list, const char* label, const Family& of) {
    head(of.name, of.type, of.help);
    for (const Json& row : status[list]) {
      text += fmt::format("{}{{{}=\"{}\"}} {}\n", of.name, label, row["name"].get<std::string>(), row[of.field].dump());
    }
  };
  for (const Family& of : std::initializer_list<Family>{
           {"capacity", "culprit_channel_capacity", "gauge", "Items that a channel may hold now."},
           {"length", "culprit_channel_length", "gauge", "Items waiting in a channel."},
           {"high_water", "culprit_channel_length_max", "gauge", "Most items that ever waited in a channel."},
           {"send_index", "culprit_channel_send_index", "gauge", "Next slot of a channel to be written."},
           {"receive_index", "culprit_channel_receive_index", "gauge", "Next slot of a channel to be read."},
           {"parked_senders", "culprit_channel_parked_senders", "gauge", "Senders that wait for room."},
           {"parked_receivers", "culprit_channel_parked_receivers", "gauge", "Receivers that wait for an item."},
           {"sent", "culprit_channel_sent_total", "counter", "Items accepted by a channel."},
           {"received", "culprit_channel_received_total", "counter", "Items taken from a channel."},
           {"blocked_s", "culprit_channel_blocked_seconds_total", "counter", "Time that senders waited for room."},
           {"idle_s", "culprit_channel_idle_seconds_total", "counter", "Time that receivers waited for an item."}}) {
    family("channels", "channel", of);
  }
  head("culprit_channel_dropped_total", "counter", "Items that a channel gave up, by reason.");
  for (const concurrent::ChannelStats& channel : parts_.registry.snapshot().channels) {
    for (std::size_t i = 0; i < concurrent::kDropReasons; ++i) {
      text += fmt::format("culprit_channel_dropped_total{{channel=\"{}\",reason=\"{}\"}} {}\n", channel.name,
                          concurrent::drop_reason_name(static_cast<concurrent::DropReason>(i)), channel.dropped[i]);
    }
  }
  for (const Family& of : std::initializer_list<Family>{
           {"entries", "culprit_map_entries", "gauge", "Live entries of a map."},
           {"segments", "culprit_map_segments", "gauge", "Segments of a map's index."},
           {"load", "culprit_map_load_ratio", "gauge", "Entries by slots of the index."},
           {"tombstones", "culprit_map_tombstones", "gauge", "Slots of erased entries that are not free yet."},
           {"bytes", "culprit_map_bytes", "gauge", "Memory of entries and index."},
           {"longest_insert_s", "culprit_map_longest_insert_seconds", "gauge", "Longest insert that had to split a segment."},
           {"splits", "culprit_map_splits_total", "counter", "Segments that were split."},
           {"inserted", "culprit_map_inserted_total", "counter", "Entries made."},
           {"erased", "culprit_map_erased_total", "counter", "Entries erased."},
           {"refused", "culprit_map_refused_total", "counter", "Inserts refused at a limit or without memory."},
           {"crowded", "culprit_map_crowded_total", "counter", "Inserts refused because too many hashes collide."}}) {
    family("maps", "map", of);
  }
  head("culprit_process_cpu_seconds_total", "counter", "CPU time of our own processes.");
  for (const Json& process : status["processes"]) {
    text += fmt::format("culprit_process_cpu_seconds_total{{process=\"{}\"}} {}\n", process["name"].get<std::string>(), process["cpu_s"].get<double>());
  }
  head("culprit_process_resident_memory_bytes", "gauge", "Resident memory of our own processes.");
  for (const Json& process : status["processes"]) {
    text += fmt::format("culprit_process_resident_memory_bytes{{process=\"{}\"}} {}\n", process["name"].get<std::string>(), process["rss_bytes"].get<std::uint64_t>());
  }
  head("culprit_incidents_open", "gauge", "Incidents that are open now.");
  text += fmt::format("culprit_incidents_open {}\n", parts_.diagnosis.open_incidents().size());
  const rules::RuleBook::State book = parts_.rules.state();
  head("culprit_rules_reload_failed", "gauge", "1 while the rules folder has a mistake and the last good set is in force.");
  text += fmt::format("culprit_rules_reload_failed {}\n", book.error.empty() ? 0 : 1);
  head("culprit_rules_reloads_total", "counter", "Tries to reload the rules, by result.");
  text += fmt::format("culprit_rules_reloads_total{{result=\"ok\"}} {}\nculprit_rules_reloads_total{{result=\"failed\"}} {}\n", book.reloads, book.failures);
  head("culprit_stream_disk_bytes", "gauge", "Size of the stored events.");
  text += fmt::format("culprit_stream_disk_bytes {}\n", status["stream"]["disk_bytes"].get<std::uint64_t>());
  // Every live series of what is seen: RED and USE of services and the edges between them.
  head("culprit_series", "gauge", "Last value of a series of the last 10 seconds, by entity (docs/events.md).");
  const auto escape = [](std::string_view value) {
    std::string out;
    for (const char c : value) {
      if (c == '"' || c == '\\') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    return out;
  };
  const std::int64_t fresh_ns = parts_.clock.now_ns() - 10 * kNsPerSecond;
  parts_.pipeline.stream_stage().series().each([&](const SeriesKey& key, const SeriesAggregate& series) {
    if (series.last_ns < fresh_ns || key.entity().starts_with("process:")) return;
    text += fmt::format("culprit_series{{entity=\"{}\",series=\"{}\"}} {}\n", escape(key.entity()), escape(key.name()), series.last);
  });
  return text;
}

}  // namespace culprit::app
