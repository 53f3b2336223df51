#include "daemon/base/config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <cctype>
#include <charconv>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

#include "daemon/base/text.h"

namespace culprit {
namespace {

constexpr std::size_t kConfigBytesMax = 1U << 20U;
constexpr std::size_t kSourceNameBytesMax = 64;

struct Field {
  const char* key;
  const char* help;
  std::function<Result<void>(Config&, const std::string&)> set;  // one scalar
  std::function<std::string(const Config&)> get;
  bool is_list = false;
};

template <typename T>
Result<T> parse_number(const std::string& text, T min, T max) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(Code::Invalid, fmt::format("'{}' is not a whole number", text));
  }
  if (value < min || value > max) {
    return fail(Code::Invalid, fmt::format("{} is not between {} and {}", value, min, max));
  }
  return static_cast<T>(value);
}

template <typename T>
Field number_field(const char* key, T Config::* member, T min, T max, const char* help) {
  return {key, help,
          [member, min, max](Config& config, const std::string& text) -> Result<void> {
            ASSIGN(config.*member, parse_number<T>(text, min, max));
            return {};
          },
          [member](const Config& config) { return std::to_string(config.*member); }};
}

Field text_field(const char* key, std::string Config::* member, const char* help) {
  return {key, help,
          [member](Config& config, const std::string& text) -> Result<void> {
            config.*member = text;
            return {};
          },
          [member](const Config& config) { return config.*member; }};
}

Field path_field(const char* key, std::filesystem::path Config::* member, const char* help) {
  return {key, help,
          [member](Config& config, const std::string& text) -> Result<void> {
            if (text.empty()) return fail(Code::Invalid, "an empty path");
            config.*member = text;
            return {};
          },
          [member](const Config& config) { return (config.*member).string(); }};
}

Result<void> check_watch(const std::string& target) {
  if (target == "all") return {};
  static const std::vector<std::string> kKinds = {"cgroup", "unit", "exe", "service", "pid"};
  const std::size_t colon = target.find(':');
  const std::string kind = target.substr(0, colon);
  if (colon == std::string::npos || colon + 1 == target.size()) {
    return fail(Code::Invalid, fmt::format("watch target '{}' is neither 'all' nor KIND:NAME with KIND one of cgroup, unit, exe, "
                                           "service, pid", target));
  }
  if (std::ranges::find(kKinds, kind) == kKinds.end()) {
    const auto near = nearest(kind, kKinds, 1);
    return fail(Code::Invalid, fmt::format("unknown kind of watch target '{}'{}", kind,
                                           near.empty() ? "" : fmt::format("; did you mean '{}'?", near[0])));
  }
  if (kind == "pid") {
    if (auto pid = parse_number<std::uint32_t>(target.substr(colon + 1), 1, 1U << 22U); !pid) {
      return std::unexpected(pid.error().context(fmt::format("watch target '{}'", target)));
    }
  }
  return {};
}

const std::vector<Field>& fields() {
  static const std::vector<Field> kFields = {
      path_field("state_dir", &Config::state_dir, "events, incidents and knowledge are kept here"),
      path_field("socket", &Config::socket, "the API's Unix socket"),
      number_field<std::uint16_t>("page_port", &Config::page_port, 0, 65535, "port of the page and of /metrics; 0 = none"),
      {"watch", "whose socket bytes and log lines are captured: cgroup:GLOB, unit:NAME, exe:GLOB, service:NAME, pid:N, all",
       [](Config& config, const std::string& text) -> Result<void> {
         TRY(check_watch(text));
         config.watch.push_back(text);
         return {};
       },
       [](const Config& config) { return fmt::format("[{}]", fmt::join(config.watch, ", ")); }, true},
      number_field<std::uint32_t>("control_ring_bytes", &Config::control_ring_bytes, 1U << 12U, 1U << 28U, "ring of rare events, each CPU; a power of two"),
      number_field<std::uint32_t>("data_ring_bytes", &Config::data_ring_bytes, 1U << 12U, 1U << 28U, "ring of payload and log lines, each CPU; a power of two"),
      number_field<std::uint32_t>("payload_per_second", &Config::payload_per_second, 0, 10'000'000, "payload and log records a second and CPU; after that the watched are left alone for the rest of it"),
      number_field<std::uint32_t>("slow_ms", &Config::slow_ms, 1, 3'600'000, "a timed system call or block request above it becomes an event, milliseconds"),
      number_field<std::uint32_t>("calls_percent", &Config::calls_percent, 0, 100, "of the time in which system calls are observed while nobody is watched and nothing is wrong"),
      number_field<std::uint32_t>("memory_bytes_max", &Config::memory_bytes_max, 1U << 22U, 1U << 31U, "events held in memory"),
      number_field<std::uint32_t>("retention_days", &Config::retention_days, 1, 3650, "days of events kept on disk"),
      number_field<std::uint32_t>("summaries_days", &Config::summaries_days, 0, 3650, "days that one-minute summaries of older samples are kept"),
      number_field<std::uint64_t>("retention_bytes", &Config::retention_bytes, 1U << 24U, 1ULL << 44U, "bytes of events kept on disk; the oldest day goes first"),
      text_field("otlp_http", &Config::otlp_http, "ADDRESS:PORT where OTLP over HTTP, remote write, alerts and Kubernetes events are taken, or off"),
      text_field("otlp_grpc", &Config::otlp_grpc, "ADDRESS:PORT where OTLP over gRPC is taken, or off"),
      path_field("rules_dir", &Config::rules_dir, "your own rules (*.yaml), added to the built-in ones"),
      {"policy_files", "configuration files or folders under watch, PATH or SERVICE=PATH; none = the usual ones below /etc",
       [](Config& config, const std::string& text) -> Result<void> {
         const std::size_t equals = text.find('=');
         if (text.empty() || text[equals == std::string::npos ? 0 : std::min(equals + 1, text.size() - 1)] != '/') {
           return fail(Code::Invalid, fmt::format("'{}' is neither an absolute path nor SERVICE=PATH", text));
         }
         config.policy_files.push_back(text);
         return {};
       },
       [](const Config& config) { return fmt::format("[{}]", fmt::join(config.policy_files, ", ")); }, true},
      path_field("weights_file", &Config::weights_file, "weights of culprit learn for the ranking; empty = the built-in ones"),
      path_field("packs_dir", &Config::packs_dir, "your own knowledge packs (*.yaml)"),
      text_field("embedding_url", &Config::embedding_url, "OpenAI-compatible /v1/embeddings for imported documents, or off: the built-in model"),
      text_field("embedding_model", &Config::embedding_model, "the model it is asked for"),
      {"embedding_allowed", "HOST or HOST:PORT that it may be at; none = loopback only",
       [](Config& config, const std::string& text) -> Result<void> {
         if (text.empty() || text.find('/') != std::string::npos) return fail(Code::Invalid, fmt::format("'{}' is neither HOST nor HOST:PORT", text));
         config.embedding_allowed.push_back(text);
         return {};
       },
       [](const Config& config) { return fmt::format("[{}]", fmt::join(config.embedding_allowed, ", ")); }, true},
      text_field("embedding_key_file", &Config::embedding_key_file, "file whose first line it is sent as bearer token"),
      text_field("user", &Config::user, "whom the daemon becomes after start"),
      text_field("log_level", &Config::log_level, "debug, info, warn or error"),
  };
  return kFields;
}

std::vector<std::string> keys() {
  std::vector<std::string> result;
  for (const Field& field : fields()) result.emplace_back(field.key);
  result.emplace_back("services");
  result.emplace_back("sources");
  return result;
}

std::unexpected<Error> fail_at(const std::string& name, const YAML::Node& node, const std::string& what) {
  return fail(Code::Invalid, fmt::format("{}:{}: {}", name, node.Mark().line + 1, what));
}

std::string unknown_key(const std::string& key, std::span<const std::string> known) {
  const auto near = nearest(key, known, 1);
  return fmt::format("unknown key '{}'{}", key, near.empty() ? "" : fmt::format("; did you mean '{}'?", near[0]));
}

Result<ServiceRule> parse_service(const YAML::Node& node, const std::string& name) {
  static const std::vector<std::string> kKeys = {"name", "cgroup", "exe", "unit", "port"};
  if (!node.IsMap()) return fail_at(name, node, "a service is a map with 'name' and what it matches");
  ServiceRule rule;
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    if (!entry.second.IsScalar()) return fail_at(name, entry.second, fmt::format("'{}' takes one value", key));
    const auto value = entry.second.Scalar();
    if (key == "name") rule.name = value;
    else if (key == "cgroup") rule.cgroup = value;
    else if (key == "exe") rule.exe = value;
    else if (key == "unit") rule.unit = value;
    else if (key == "port") {
      auto port = parse_number<std::uint16_t>(value, 1, 65535);
      if (!port) return fail_at(name, entry.second, "port: " + port.error().message);
      rule.port = *port;
    } else {
      return fail_at(name, entry.first, unknown_key(key, kKeys));
    }
  }
  if (rule.name.empty()) return fail_at(name, node, "a service needs a 'name'");
  if (rule.cgroup.empty() && rule.exe.empty() && rule.unit.empty() && rule.port == 0) {
    return fail_at(name, node, fmt::format("service '{}' matches nothing: give cgroup, exe, unit or port", rule.name));
  }
  return rule;
}

Result<SourceRule> parse_source(const YAML::Node& node, const std::string& name) {
  if (!node.IsMap()) return fail_at(name, node, "a source is a map with 'type' and its options");
  SourceRule rule;
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    if (key.ends_with("relabel") && entry.second.IsSequence()) {  // the options that are more than a text
      YAML::Emitter text;
      text << YAML::Flow << entry.second;
      rule.options[key] = text.c_str();
      continue;
    }
    if (!entry.second.IsScalar()) return fail_at(name, entry.second, fmt::format("'{}' takes one value", key));
    if (key == "type") rule.type = entry.second.Scalar();
    else if (key == "name") rule.name = entry.second.Scalar();
    else rule.options[key] = entry.second.Scalar();
  }
  if (auto checked = check_source(rule); !checked) return fail_at(name, node, checked.error().message);
  return rule;
}

Result<void> apply(Config& config, const YAML::Node& root, const std::string& name) {
  if (root.IsNull()) return {};
  if (!root.IsMap()) return fail_at(name, root, "the configuration is a map of keys and values");
  for (const auto& entry : root) {
    const auto key = entry.first.as<std::string>();
    const YAML::Node& value = entry.second;
    const auto [first, fresh] = config.origins.try_emplace(key, fmt::format("{}:{}", name, entry.first.Mark().line + 1));
    if (!fresh) return fail_at(name, entry.first, fmt::format("'{}' was given at {} already", key, first->second));
    if (key == "services") {
      if (!value.IsSequence()) return fail_at(name, value, "'services' is a list");
      for (const auto& item : value) {
        ASSIGN(auto rule, parse_service(item, name));
        config.services.push_back(std::move(rule));
      }
      continue;
    }
    if (key == "sources") {
      if (!value.IsSequence()) return fail_at(name, value, "'sources' is a list");
      for (const auto& item : value) {
        ASSIGN(auto rule, parse_source(item, name));
        if (rule.name.empty()) rule.name = fmt::format("{}-{}", rule.type, config.sources.size() + 1);
        config.sources.push_back(std::move(rule));
      }
      continue;
    }
    const auto field = std::ranges::find_if(fields(), [&](const Field& f) { return key == f.key; });
    if (field == fields().end()) return fail_at(name, entry.first, unknown_key(key, keys()));
    if (field->is_list) {
      if (!value.IsSequence()) return fail_at(name, value, fmt::format("'{}' is a list", key));
      for (const auto& item : value) {
        if (!item.IsScalar()) return fail_at(name, item, fmt::format("'{}' is a list of texts", key));
        if (auto set = field->set(config, item.Scalar()); !set) return fail_at(name, item, set.error().message);
      }
    } else {
      if (!value.IsScalar()) return fail_at(name, value, fmt::format("'{}' takes one value", key));
      if (auto set = field->set(config, value.Scalar()); !set) return fail_at(name, value, key + ": " + set.error().message);
    }
  }
  return {};
}

}  // namespace

Result<std::vector<RelabelStep>> parse_relabel(const std::string& yaml) {
  static const std::vector<std::string> kKeys = {"action", "source_labels", "separator", "regex", "target_label", "replacement"};
  std::vector<RelabelStep> steps;
  try {
    const YAML::Node root = YAML::Load(yaml);
    if (!root.IsSequence()) return fail(Code::Invalid, "relabel: a list of steps");
    for (const auto& item : root) {
      if (!item.IsMap()) return fail_at("relabel", item, "a step is a map");
      RelabelStep step;
      for (const auto& entry : item) {
        const auto key = entry.first.as<std::string>();
        if (key == "source_labels") {
          if (!entry.second.IsSequence()) return fail_at("relabel", entry.second, "'source_labels' is a list");
          for (const auto& label : entry.second) step.source_labels.push_back(label.as<std::string>());
          continue;
        }
        if (!entry.second.IsScalar()) return fail_at("relabel", entry.second, fmt::format("'{}' takes one value", key));
        if (key == "action") step.action = entry.second.Scalar();
        else if (key == "separator") step.separator = entry.second.Scalar();
        else if (key == "regex") step.regex = entry.second.Scalar();
        else if (key == "target_label") step.target_label = entry.second.Scalar();
        else if (key == "replacement") step.replacement = entry.second.Scalar();
        else return fail_at("relabel", entry.first, unknown_key(key, kKeys));
      }
      steps.push_back(std::move(step));
    }
  } catch (const YAML::Exception& e) {
    return fail(Code::Invalid, fmt::format("relabel:{}: {}", e.mark.line + 1, e.msg));
  }
  return steps;
}

const std::vector<SourceType>& source_types() {
  static const std::vector<SourceType> kTypes = {
      {"file", {"path"}, {"format", "service", "from"}},
      {"scrape", {"target"}, {"interval", "service", "keep", "drop", "relabel", "labels", "honor_labels", "target_relabel"}},
      {"journald", {}, {"path", "units", "from"}},
      {"kubernetes", {"server"}, {"namespace", "token_file", "ca_file"}},
      {"syslog", {"listen"}, {"protocol", "service"}},
  };
  return kTypes;
}

Result<void> check_source(const SourceRule& rule) {
  std::vector<std::string> names;
  for (const SourceType& type : source_types()) names.push_back(type.name);
  const auto type = std::ranges::find(source_types(), rule.type, &SourceType::name);
  if (type == source_types().end()) {
    const auto near = nearest(rule.type, names, 1);
    return fail(Code::Invalid, fmt::format("unknown type of source '{}'{}; known are {}", rule.type, near.empty() ? "" : fmt::format(", did you mean '{}'?", near[0]), fmt::join(names, ", ")));
  }
  // It names a file of positions.
  const auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.'; };
  if (rule.name.size() > kSourceNameBytesMax || rule.name.starts_with('.') || !std::ranges::all_of(rule.name, plain)) {
    return fail(Code::Invalid, fmt::format("name '{}': at most {} letters, digits, '-', '_' and '.'", sanitize_utf8(rule.name.substr(0, kSourceNameBytesMax)), kSourceNameBytesMax));
  }
  std::vector<std::string> options = type->required;
  options.insert(options.end(), type->optional.begin(), type->optional.end());
  for (const auto& [key, value] : rule.options) {
    if (std::ranges::find(options, key) == options.end()) return fail(Code::Invalid, fmt::format("{} source: {}", rule.type, unknown_key(key, options)));
  }
  for (const std::string& key : type->required) {
    if (rule.get(key).empty()) return fail(Code::Invalid, fmt::format("{} source: '{}' is missing", rule.type, key));
  }
  if (const std::string from = rule.get("from", "end"); from != "end" && from != "beginning") {
    return fail(Code::Invalid, fmt::format("{} source: from '{}': end or beginning", rule.type, from));
  }
  for (const char* key : {"relabel", "target_relabel"}) {
    const std::string steps = rule.get(key);
    if (steps.empty()) continue;
    if (auto parsed = parse_relabel(steps); !parsed) return std::unexpected(parsed.error().context(key));
  }
  return {};
}

Result<Config> Config::parse(std::string_view yaml, const std::string& name) {
  Config config;
  try {
    TRY(apply(config, YAML::Load(std::string(yaml)), name));
  } catch (const YAML::Exception& e) {
    return fail(Code::Invalid, fmt::format("{}:{}: {}", name, e.mark.line + 1, e.msg));
  }
  TRY(config.check());
  return config;
}

Result<Config> Config::load(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return fail_errno(errno, fmt::format("read configuration '{}'", file.string()));
  std::string text;
  text.resize(kConfigBytesMax + 1);
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) return fail_errno(errno, fmt::format("read configuration '{}'", file.string()));  // a folder opens, but does not read
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kConfigBytesMax) return fail(Code::Exhausted, fmt::format("configuration '{}' is larger than 1 MiB", file.string()));
  return parse(text, file.string());
}

Result<void> Config::set(const std::string& key, const std::string& value, const std::string& origin) {
  const auto field = std::ranges::find_if(fields(), [&](const Field& f) { return key == f.key; });
  if (field == fields().end()) return fail(Code::Invalid, unknown_key(key, keys()));
  if (auto set = field->set(*this, value); !set) return std::unexpected(set.error().context(fmt::format("{}: {}", origin, key)));
  origins[key] = origin;
  return {};
}

Result<void> Config::check() const {
  const auto at = [&](const char* key) {
    const auto origin = origins.find(key);
    return origin == origins.end() ? std::string(key) : fmt::format("{}: {}", origin->second, key);
  };
  for (const auto& [key, bytes] : {std::pair{"control_ring_bytes", control_ring_bytes}, {"data_ring_bytes", data_ring_bytes}}) {
    if ((bytes & (bytes - 1)) != 0) return fail(Code::Invalid, fmt::format("{}: {} is not a power of two", at(key), bytes));
  }
  if (embedding_url != "off" && embedding_model.empty()) return fail(Code::Invalid, fmt::format("{}: which model? embedding_model is missing", at("embedding_url")));
  if (log_level != "debug" && log_level != "info" && log_level != "warn" && log_level != "error") {
    return fail(Code::Invalid, fmt::format("{}: '{}' is none of debug, info, warn, error", at("log_level"), log_level));
  }
  return {};
}

std::vector<Config::Row> Config::rows() const {
  std::vector<Row> result;
  const auto origin_of = [&](const std::string& key) {
    const auto origin = origins.find(key);
    return origin == origins.end() ? std::string("default") : origin->second;
  };
  for (const Field& field : fields()) result.push_back({field.key, field.get(*this), origin_of(field.key), field.help});
  std::vector<std::string> names;
  names.reserve(services.size());
  for (const ServiceRule& rule : services) names.push_back(rule.name);
  std::vector<std::string> source_names;
  source_names.reserve(sources.size());
  for (const SourceRule& rule : sources) source_names.push_back(rule.name);
  result.push_back({"sources", fmt::format("[{}]", fmt::join(source_names, ", ")), origin_of("sources"), "files, targets to scrape, syslog and others to read (docs/sources.md)"});
  result.push_back({"services", fmt::format("[{}]", fmt::join(names, ", ")), origin_of("services"), "names for what you run: name and cgroup, exe, unit or port"});
  return result;
}

}  // namespace culprit
