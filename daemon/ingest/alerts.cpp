#include "daemon/ingest/alerts.h"

#include <fmt/format.h>

#include "daemon/ingest/json.h"
#include "daemon/ingest/labels.h"
#include "daemon/logs/header.h"

namespace culprit::ingest {
namespace {

std::string_view first_text(JsonValue of, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (const auto text = text_of(of, key); !text.empty()) return text;
  }
  return {};
}

std::uint8_t severity_of(std::string_view word) {
  std::string small(word.substr(0, 32));
  for (char& c : small) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (small == "critical" || small == "page" || small == "p1" || small == "disaster") return stream::kFatal;
  if (small == "high" || small == "p2" || small == "major") return stream::kError;
  if (small == "none" || small == "low" || small == "p4") return stream::kInfo;
  const std::uint8_t level = logs::severity_of_level(small);
  return level == stream::kUnset ? std::uint8_t{stream::kWarn} : level;
}

bool is_over(std::string_view status) {
  return status == "resolved" || status == "ok" || status == "OK" || status == "closed" || status == "inactive" || status == "recovered";
}

void read_map(JsonValue of, std::string_view key, std::string_view prefix, Labels& to, Decoded& out) {
  JsonValue map;
  JsonObject object;
  if (!member(of, key, map) || map.get(object) != simdjson::SUCCESS) return;
  for (const auto& [name, value] : object) add_attribute(to, std::string(prefix) + std::string(name), any_text(value, kValueBytesMax), out);
}

void read_alert(JsonValue value, const Context& context, Decoded& out) {
  ++out.records;
  stream::Event event;
  event.kind = stream::Kind::Alert;
  Labels labels, annotations;
  read_map(value, "labels", "", labels, out);
  read_map(value, "annotations", "", annotations, out);
  // What a generic object says flatly counts like a label.
  for (const std::string_view key : {"service", "app", "pod", "deployment", "container", "instance", "job", "host"}) {
    if (const auto text = text_of(value, key); !text.empty()) add_attribute(labels, key, text, out);
  }
  const auto find = [](const Labels& in, std::string_view key) -> std::string_view {
    for (const auto& [name, text] : in) {
      if (name == key) return text;
    }
    return {};
  };
  std::string_view name = find(labels, "alertname");
  if (name.empty()) name = first_text(value, {"name", "alertname", "title", "alert", "rule_name", "event"});
  std::string_view text = find(annotations, "summary");
  if (text.empty()) text = find(annotations, "description");
  if (text.empty()) text = find(annotations, "message");
  if (text.empty()) text = first_text(value, {"text", "message", "description", "summary", "body"});
  if (name.empty() && text.empty()) return out.reject("an alert without a name and a text");
  const std::string_view status = first_text(value, {"status", "state"});
  const bool over = is_over(status);
  event.name = bounded_text(name.empty() ? std::string_view("alert") : name, kNameBytesMax, out);
  event.body = bounded_text(text.empty() ? name : text, kValueBytesMax, out);
  event.value = over ? 0 : 1;
  std::string_view severity = find(labels, "severity");
  if (severity.empty()) severity = first_text(value, {"severity", "level", "priority"});
  event.severity = severity_of(severity);
  const std::string_view when = over ? first_text(value, {"endsAt", "time", "timestamp"}) : first_text(value, {"startsAt", "time", "timestamp"});
  event.time_ns = when.empty() ? context.now_ns : stream_time(parse_wall(when).value_or(0), context, out);
  event.entity = entity_of_labels(labels, context);
  if (event.entity.empty()) event.entity = "host";
  event.attributes.emplace_back("alert.status", over ? "resolved" : "firing");
  std::string id(text_of(value, "fingerprint"));
  if (id.empty()) id = event.entity + "/" + event.name;
  event.attributes.emplace_back("alert.id", bounded_text(id, kNameBytesMax, out));
  for (auto& [key, content] : labels) {
    if (key != "alertname") add_attribute(event.attributes, key, content, out);
  }
  out.events.push_back(std::move(event));
}

}  // namespace

Result<void> decode_alerts(std::string_view json, const Context& context, Decoded& out) {
  thread_local JsonParser parser;
  ASSIGN(const JsonValue root, parser.parse(json));
  std::size_t count = 0;
  const auto take = [&](JsonValue alert) {
    if (++count <= kAlertsMax) {
      read_alert(alert, context, out);
    } else {
      ++out.records;
      out.reject(fmt::format("more than {} alerts at once", kAlertsMax));
    }
  };
  JsonValue list;
  if (member(root, "alerts", list) && list.is_array()) {
    each_of(list, take);
  } else if (root.is_array()) {
    each_of(root, take);
  } else if (root.is_object()) {
    take(root);
  } else {
    return fail(Code::Invalid, "alert: neither an object nor a list (offset 0)");
  }
  return {};
}

}  // namespace culprit::ingest
