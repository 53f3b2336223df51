// Config: everything a person can set, with its default, unit and reason. Read once at start: the file
// (YAML), then the flags; checked; immutable afterwards. An unknown key is an error that names file, line
// and the nearest key. `culprit config` prints each value and where it came from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace culprit {

// Gives a name to what matches. At least one of the other fields is set; all that are set must match.
struct ServiceRule {
  std::string name;
  std::string cgroup;  // glob over the cgroup v2 path
  std::string exe;     // glob over the executable's path
  std::string unit;    // systemd unit, without ".service"
  std::uint16_t port = 0;  // a TCP port it listens on
};

// One more place that events come from. Which options a type has is in source_types(); docs/sources.md shows each.
struct SourceRule {
  std::string type;  // file, scrape, syslog, journald, kubernetes
  std::string name;  // shown by `culprit sources list`; made from type and number if not given
  std::map<std::string, std::string> options;
  std::string get(const std::string& key, const std::string& otherwise = {}) const {
    const auto found = options.find(key);
    return found == options.end() ? otherwise : found->second;
  }
};
// One step of a scrape source's `relabel`, with Prometheus' names and defaults.
struct RelabelStep {
  std::string action = "replace";
  std::vector<std::string> source_labels = {};
  std::string separator = ";";
  std::string regex = "(.*)";
  std::string target_label = {};
  std::string replacement = "$1";
};
// A list of steps in YAML (or JSON). Errors: Invalid with the line.
Result<std::vector<RelabelStep>> parse_relabel(const std::string& yaml);

struct SourceType {
  std::string name;
  std::vector<std::string> required, optional;
};
const std::vector<SourceType>& source_types();
// Errors: Invalid: an unknown type or option (with the nearest), one that is missing.
Result<void> check_source(const SourceRule& rule);

struct Config {
  std::filesystem::path state_dir = "/var/lib/culprit";
  std::filesystem::path socket = "/run/culprit/api.sock";
  std::uint16_t page_port = 7117;  // on 127.0.0.1; 0 = no page
  // Targets whose socket bytes and log lines are captured: "cgroup:GLOB", "unit:NAME", "exe:GLOB",
  // "service:NAME", "pid:N" or "all". Everything else is only counted.
  std::vector<std::string> watch;
  std::vector<ServiceRule> services;
  std::vector<SourceRule> sources;
  std::uint32_t control_ring_bytes = 1U << 20U;  // each CPU; process life and TCP state are rare
  std::uint32_t data_ring_bytes = 4U << 20U;     // each CPU; some 6,000 to 20,000 payload records, by their size
  std::uint32_t payload_per_second = 2'000;     // records a second and CPU; bounds the cost for the watched
  std::uint32_t slow_ms = 100;                   // a timed call or block request above it is an event
  std::uint32_t calls_percent = 2;               // of the time in which system calls are observed while nothing asks for it
  std::uint32_t memory_bytes_max = 48U << 20U;   // events held in memory
  std::uint32_t retention_days = 3;
  std::uint32_t summaries_days = 30;
  std::uint64_t retention_bytes = 2ULL << 30U;
  // Where other tools send their data: OTLP over HTTP, remote write, alerts, Kubernetes events.
  // ADDRESS:PORT, or "off". Loopback unless told otherwise: nobody has to prove who he is.
  std::string otlp_http = "127.0.0.1:4318";
  std::string otlp_grpc = "127.0.0.1:4317";  // OTLP over gRPC, the same way
  std::filesystem::path rules_dir = "/etc/culprit/rules";
  // Configuration files or folders whose writes and policy violations are changes: "PATH" or "SERVICE=PATH"; empty = the
  // usual folders below /etc.
  std::vector<std::string> policy_files;
  std::filesystem::path weights_file;  // of `culprit learn`, for the ranking; empty = the built-in weights
  std::filesystem::path packs_dir = "/etc/culprit/packs";
  // An OpenAI-compatible endpoint that gives imported documents their vectors; the built-in model does otherwise. Never asked
  // about log lines or while ranking.
  std::string embedding_url = "off";
  std::string embedding_model;
  std::vector<std::string> embedding_allowed;  // "HOST" or "HOST:PORT" that may be spoken to; empty = loopback only
  std::string embedding_key_file;              // its first line is sent as bearer token; empty = none
  std::string user = "culprit";  // whom the daemon becomes; "nobody" when there is no such user
  std::string log_level = "info";

  std::map<std::string, std::string> origins;  // key -> "default", "FILE:LINE" or "--flag"

  // Reads `file` over the defaults. Errors: NotFound, Denied, Io; Invalid with "FILE:LINE: ...".
  static Result<Config> load(const std::filesystem::path& file);
  static Result<Config> parse(std::string_view yaml, const std::string& name);

  // Sets one key as a flag would; lists take one element a call.
  Result<void> set(const std::string& key, const std::string& value, const std::string& origin);

  // Whole-value checks after everything was set. Errors: Invalid.
  Result<void> check() const;

  struct Row {
    std::string key, value, origin, help;
  };
  std::vector<Row> rows() const;  // every key, in the order of the example file
};

}  // namespace culprit
