#include "daemon/ingest/kubernetes.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/ingest/json.h"

namespace culprit::ingest {
namespace {

// Reasons by which somebody, or a controller, changed what runs; all others tell of a state.
constexpr std::string_view kChanges[] = {"ScalingReplicaSet", "SuccessfulRescale", "SuccessfulCreate", "SuccessfulDelete", "Killing",
                                         "Preempted",         "Evicted",           "DeploymentRollback", "NodeNotReady",    "Rebooted",
                                         "Started",           "RecreatingFailedPod", "TaintManagerEviction"};

std::string_view strip_replica_hash(std::string_view name) {
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return name;
  const std::string_view hash = name.substr(dash + 1);
  const bool random = hash.size() >= 8 && hash.size() <= 10 && std::ranges::all_of(hash, [](char c) { return std::string_view("bcdfghjklmnpqrstvwxz2456789").find(c) != std::string_view::npos; });
  return random ? name.substr(0, dash) : name;
}

std::string entity_of(std::string_view kind, std::string_view name) {
  if (kind == "Node") return "host";
  if (kind == "Pod") return "service:" + workload_of_pod(name);
  if (kind == "ReplicaSet") return "service:" + std::string(strip_replica_hash(name));
  return name.empty() ? "host" : "service:" + std::string(name);
}

bool read_event(JsonValue value, const Context& context, Decoded& out, const KubernetesFilter& wanted) {
  JsonValue object;
  if (!member(value, "involvedObject", object) && !member(value, "regarding", object)) return false;
  stream::Event event;
  const std::string_view reason = text_of(value, "reason");
  std::string_view message = text_of(value, "message");
  if (message.empty()) message = text_of(value, "note");
  if (reason.empty() && message.empty()) return false;
  std::int64_t count = integer_of(value, "count");
  JsonValue series;
  if (member(value, "series", series)) count = std::max(count, integer_of(series, "count"));
  if (count == 0) count = integer_of(value, "deprecatedCount");
  std::int64_t time_ns = 0;
  for (const std::string_view key : {"lastTimestamp", "eventTime", "deprecatedLastTimestamp", "firstTimestamp"}) {
    if (time_ns == 0) time_ns = parse_wall(text_of(value, key)).value_or(0);
  }
  JsonValue metadata;
  const bool has_metadata = member(value, "metadata", metadata);
  if (wanted && has_metadata && !wanted({text_of(metadata, "uid"), text_of(metadata, "resourceVersion"), time_ns})) return true;
  if (time_ns == 0 && has_metadata) time_ns = parse_wall(text_of(metadata, "creationTimestamp")).value_or(0);
  event.time_ns = stream_time(time_ns, context, out);
  const std::string_view kind = text_of(object, "kind"), name = text_of(object, "name").substr(0, kNameBytesMax);
  event.entity = entity_of(kind, name);
  const bool warning = text_of(value, "type") == "Warning";
  event.severity = warning ? stream::kWarn : stream::kInfo;
  // What says that something broke, not only that it might.
  if (warning && (reason.starts_with("Failed") || reason == "BackOff" || reason == "OOMKilling" || reason == "Unhealthy" || reason == "Evicted" || reason == "NodeNotReady")) event.severity = stream::kError;
  event.value = static_cast<double>(std::max<std::int64_t>(1, count));
  event.body = bounded_text(fmt::format("{}{}{}", reason, reason.empty() ? "" : ": ", message), kBodyBytesMax, out);
  if (std::ranges::find(kChanges, reason) != std::end(kChanges)) {
    event.kind = stream::Kind::Change;
    event.name = fmt::format("kubernetes.{}", reason);
  } else {
    event.kind = stream::Kind::Log;
  }
  if (event.entity.starts_with("service:")) add_attribute(event.attributes, "service", std::string_view(event.entity).substr(8), out);
  add_attribute(event.attributes, "k8s.event.reason", reason, out);
  add_attribute(event.attributes, "k8s.object.kind", kind, out);
  add_attribute(event.attributes, "k8s.object.name", name, out);
  if (const auto space = text_of(object, "namespace"); !space.empty()) add_attribute(event.attributes, "k8s.namespace.name", space, out);
  if (count > 1) add_attribute(event.attributes, "k8s.event.count", fmt::to_string(count), out);
  out.events.push_back(std::move(event));
  return true;
}

void take(JsonValue value, const Context& context, Decoded& out, const KubernetesFilter& wanted, int depth) {
  if (JsonValue items; depth < 3 && member(value, "items", items)) {
    each_of(items, [&](JsonValue item) { take(item, context, out, wanted, depth + 1); });
    return;
  }
  JsonValue object;
  if (depth < 3 && member(value, "object", object) && !text_of(value, "type").empty()) {
    const std::string_view type = text_of(value, "type");
    if (type == "ADDED" || type == "MODIFIED") take(object, context, out, wanted, depth + 1);
    return;  // DELETED, BOOKMARK and ERROR tell of the watch
  }
  if (out.records >= kKubernetesEventsMax) {
    ++out.records;
    return out.reject(fmt::format("more than {} events at once", kKubernetesEventsMax));
  }
  ++out.records;
  if (!read_event(value, context, out, wanted)) out.reject("no Kubernetes Event: involvedObject (or regarding) with a reason or message is missing");
}

// Each document of the text: a whole one, or one a line.
template <typename Each>
Result<void> each_document(std::string_view json, const Each& each) {
  thread_local JsonParser parser;
  const auto whole = parser.parse(json);
  if (whole) {
    if (whole->is_array()) {
      each_of(*whole, each);
    } else {
      each(*whole);
    }
    return {};
  }
  const std::size_t first_end = json.find('\n');
  if (first_end == std::string_view::npos) return std::unexpected(whole.error());
  std::size_t offset = 0;
  while (offset < json.size()) {
    const std::size_t end = std::min(json.find('\n', offset), json.size());
    const std::string_view line = json.substr(offset, end - offset);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      const auto document = parser.parse(line);
      // Not one a line: the error of the whole is the one that helps.
      if (!document) return offset == 0 ? Result<void>(std::unexpected(whole.error())) : fail(Code::Invalid, fmt::format("line at offset {}: {}", offset, document.error().message));
      each(*document);
    }
    offset = end + 1;
  }
  return {};
}

}  // namespace

Result<void> decode_kubernetes_events(std::string_view json, const Context& context, Decoded& out) { return decode_kubernetes_events_if({}, json, context, out); }

Result<void> decode_kubernetes_events_if(const KubernetesFilter& wanted, std::string_view json, const Context& context, Decoded& out) {
  return each_document(json, [&](JsonValue value) { take(value, context, out, wanted, 0); });
}

WatchPosition watch_position(std::string_view json) {
  WatchPosition position;
  (void)each_document(json, [&](JsonValue value) {
    JsonValue object = value, metadata;
    if (text_of(value, "type") == "ERROR") {
      position.expired = true;
      if (member(value, "object", object)) position.error = text_of(object, "message").substr(0, kNameBytesMax);
      return;
    }
    (void)member(value, "object", object);
    if (!member(object, "metadata", metadata)) return;
    if (const auto version = text_of(metadata, "resourceVersion"); !version.empty()) position.resource_version = version.substr(0, 128);
    if (const auto next = text_of(metadata, "continue"); !next.empty()) position.next_page = next.substr(0, kValueBytesMax);
  });
  return position;
}

}  // namespace culprit::ingest
